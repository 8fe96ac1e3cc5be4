# SPDX-License-Identifier: Apache-2.0
"""What simulated commands do."""

from __future__ import annotations

import math

import pytest

from dynamic_memory.embedded.runtime.commands import plan
from dynamic_memory.errors import InvalidInput

ENV = {"A": "1", "DYNAMIC_MEMORY_BYTES": "42"}


@pytest.mark.parametrize(
    ("command", "seconds", "code", "term", "output"),
    [
        ([], math.inf, 0, 0, ""),
        (["nginx", "-g", "daemon off;"], math.inf, 0, 0, ""),
        (["sleep", "3600"], 3600, 0, None, ""),
        (["/bin/sleep", "infinity"], math.inf, 0, None, ""),
        (["sleep", "1m"], 60, 0, None, ""),
        (["true"], 0, 0, None, ""),
        (["false"], 0, 1, None, ""),
        (["env"], 0, 0, None, "A=1\nDYNAMIC_MEMORY_BYTES=42\n"),
        (["echo", "a", "b"], 0, 0, None, "a b\n"),
        (["sh", "-c", "sleep 2; exit 3"], 2, 3, None, ""),
        (["sh", "-c", "echo hi && sleep 1m"], 60, 0, None, "hi\n"),
        (["sh", "-c", "echo $A-${A} '$A' \"$A b\" $NONE."], 0, 0, None, "1-1 $A 1 b .\n"),
        (["echo", "$A"], 0, 0, None, "$A\n"),
        (["sh", "-c", "trap 'exit 0' TERM; env | grep DYNAMIC_MEMORY; while true; do sleep 1; done"], math.inf, 0, 0,
         "DYNAMIC_MEMORY_BYTES=42\n"),
        (["sh", "-c", "trap 'exit 5' TERM INT; while true; do sleep 1; done"], math.inf, 0, 5, ""),
        (["sh", "-c", "while true; do sleep 1; done"], math.inf, 0, None, ""),
        (["sh", "-c", "sleep 1; ./work"], math.inf, 0, None, ""),
        (["sh", "-c", "exec sleep 9"], 9, 0, None, ""),
    ],
)  # fmt: skip
def test_a_command_ends_when_and_how_it_would(command, seconds, code, term, output):
    found = plan(command, ENV)
    assert (found.seconds, found.code, found.term, found.output) == (seconds, code, term, output)


def test_an_annotation_ends_anything():
    assert (plan([], {}, "30s").seconds, plan([], {}, "30s").code) == (30, 0)
    assert (plan(["sleep", "9"], {}, "2m 3").seconds, plan(["sleep", "9"], {}, "2m 3").code) == (120, 3)


@pytest.mark.parametrize("text", ["", "soon", "3s x", "3s 256", "3s 1 2"])
def test_an_annotation_that_cannot_be_read_is_refused(text):
    with pytest.raises(InvalidInput, match=r"simulation\.dynamicmemory\.dev/exit"):
        plan([], {}, text)
