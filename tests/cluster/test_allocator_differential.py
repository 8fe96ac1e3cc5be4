# SPDX-License-Identifier: Apache-2.0
"""The allocation engine answers as the allocator of Kubernetes does: same devices, same order, same kind of error.

Both programs read the same JSON lines. What is not compared is what has to differ: share identities, which are random,
and the wording of errors.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from tests.support.allocation_cases import BROKEN, EXPRESSIONS, allocation_case
from tools.allocator.build import build

CASES = 5000
CHUNK = 1000
QUANTITIES = ("1Gi", "1.500", "1.3Ki", "+5", "1000", "1E3", "10E", "9Ei", "0.1Ki", "1u", "0", "12e6", "-1", "1024Ki")

pytestmark = pytest.mark.timeout(900, method="signal")


@pytest.fixture(scope="module")
def peer() -> str:
    return str(build())


def ask(command: list[str], questions: list[dict[str, Any]]) -> list[Any]:
    text = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return [comparable(json.loads(line)) for line in done.stdout.splitlines()]


def ours(questions: list[dict[str, Any]]) -> list[Any]:
    return ask([sys.executable, "-m", "dynamic_memory.allocation"], questions)


def comparable(reply: Any) -> Any:
    """Drop what is empty, hide what is random, and keep of an error only that there is one."""
    if isinstance(reply, dict):
        hidden = {key: "*" for key in ("shareID", "error", "compileError", "runtimeError") if key in reply}
        kept = {key: comparable(value) for key, value in reply.items()} | hidden
        return {key: value for key, value in kept.items() if value not in (None, [], {})}
    return [comparable(value) for value in reply] if isinstance(reply, list) else reply


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_random_cases_come_out_the_same(peer: str, first: int) -> None:
    questions = [allocation_case(seed) for seed in range(first, first + CHUNK)]
    expected, got = ask([peer], questions), ours(questions)
    different = [(one["id"], one, two) for one, two in zip(expected, got, strict=True) if one != two]

    assert different == []
    assert sum(reply.get("ok", False) for reply in expected) > CHUNK // 10


def test_quantities_are_written_the_same(peer: str) -> None:
    def question(text: str) -> dict[str, Any]:
        device = {"name": "d", "allowMultipleAllocations": True, "capacity": {"size": {"value": text}}}
        pool = {"name": "p", "generation": 1, "resourceSliceCount": 1}
        exactly = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1}
        return {
            "id": text,
            "kind": "allocate",
            "node": {"metadata": {"name": "n"}},
            "classes": [{"metadata": {"name": "c"}}],
            "slices": [{"spec": {"driver": "x.example.com", "pool": pool, "nodeName": "n", "devices": [device]}}],
            "claims": [{"spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}}],
        }

    questions = [question(text) for text in QUANTITIES]

    assert ours(questions) == ask([peer], questions)


def test_expressions_say_the_same(peer: str) -> None:
    devices = [
        {"driver": driver, "attributes": attributes, "capacity": {"size": {"value": "3Gi"}}}
        for driver in ("dra.memory", "gpu.example.com")
        for attributes in (
            {"kind": {"string": "local"}, "numa": {"int": 1}},
            {"dra.memory/kind": {"string": "fabric"}},
            {"numa": {"bool": True}},
            {"kind": {"version": "1.2.3"}},
            {},
        )
    ]
    questions = [
        {"id": number, "kind": "cel", "env": env, "expression": expression, "device": device}
        for number, (env, expression, device) in enumerate(
            (env, expression, device)
            for env in ("stored", "new")
            for expression in (*EXPRESSIONS, *BROKEN, 'device.attributes["dra.memory"].kind', "[1, 2]", "1")
            for device in devices
        )
    ]

    assert ours(questions) == ask([peer], questions)
