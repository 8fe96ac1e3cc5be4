# SPDX-License-Identifier: Apache-2.0
"""One line a record, data in fields."""

from __future__ import annotations

import json
import logging

import pytest

from dynamic_memory.process.logging import setup


@pytest.fixture(autouse=True)
def root_logger():
    root = logging.getLogger()
    kept = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = kept


def test_json_is_one_object_a_line(capsys):
    setup("driver", json=True, level="info")
    log = logging.getLogger("dynamic_memory.x")
    log.info("attached %s", "it", extra={"claim": "ns/c", "bytes": 5})
    log.debug("not shown")
    try:
        int("line\nbreak")
    except ValueError:
        log.exception("failed")
    first, second = map(json.loads, capsys.readouterr().err.splitlines())
    assert first | {"time": ""} == {
        "time": "",
        "level": "info",
        "role": "driver",
        "logger": "dynamic_memory.x",
        "message": "attached it",
        "claim": "ns/c",
        "bytes": 5,
    }
    assert first["time"].endswith("Z")
    assert "ValueError: invalid literal" in second["exception"]


def test_text_is_a_line_with_fields(capsys):
    setup("driver", json=False, level="warning")
    logging.getLogger("x").warning("busy", extra={"tag": "t1"})
    line = capsys.readouterr().err
    assert line.endswith("WARNING driver: busy tag=t1\n")


def test_http_libraries_do_not_log_each_request(capsys):
    setup("driver", json=False, level="debug")
    logging.getLogger("httpx2").info("HTTP Request: GET https://…")
    assert capsys.readouterr().err == ""
