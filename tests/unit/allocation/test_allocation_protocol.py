# SPDX-License-Identifier: Apache-2.0
"""The way in for other programs: JSON lines, the benchmark, and what happens with input that is no good."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.allocation_cases import allocation_case, cluster

from dynamic_memory.allocation import Features
from dynamic_memory.allocation.protocol import answer

COMMAND = [sys.executable, "-m", "dynamic_memory.allocation"]


def ask(question: Any) -> Any:
    line = question if isinstance(question, bytes) else json.dumps(question).encode()
    numbers = itertools.count()
    reply = answer(line, lambda: f"share-{next(numbers)}", lambda *_: None)
    return json.loads(reply.line)


def run(*arguments: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
        env={**os.environ, **environment},
    )


def allocate(**changes: Any) -> dict[str, Any]:
    device = {"name": "d", "allowMultipleAllocations": True, "capacity": {"size": {"value": "4Gi"}}}
    spec = {"driver": "dra.memory", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "nodeName": "n"}
    exactly = {"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1,
               "capacity": {"requests": {"size": "1Gi"}}}  # fmt: skip
    selector = {"cel": {"expression": 'device.driver == "dra.memory"'}}
    return {
        "id": "q",
        "kind": "allocate",
        "node": {"metadata": {"name": "n"}},
        "classes": [{"metadata": {"name": "c"}, "spec": {"selectors": [selector]}}],
        "slices": [{"metadata": {"name": "s"}, "spec": {**spec, "devices": [device]}}],
        "allocatedClaims": [],
        "claims": [{"metadata": {"name": "k"}, "spec": {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}}],
        **changes,
    }


def test_an_allocation() -> None:
    result = {"request": "r", "driver": "dra.memory", "pool": "p", "device": "d", "shareID": "share-0",
              "consumedCapacity": {"size": "1Gi"}}  # fmt: skip
    requirement = {"key": "metadata.name", "operator": "In", "values": ["n"]}

    assert ask(allocate()) == {
        "id": "q",
        "ok": True,
        "allocations": [
            {
                "devices": {"results": [result]},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [requirement]}]},
            }
        ],
    }


def test_unsatisfied() -> None:
    assert ask(allocate(slices=[])) == {"id": "q", "ok": False, "unsatisfied": True}


def test_a_fatal_error() -> None:
    reply = ask(allocate(classes=[]))

    assert (reply["ok"], reply["scope"]) == (False, "fatal")
    assert "device class c not found" in reply["error"]


def test_an_error_of_the_node() -> None:
    slices = allocate()["slices"]
    slices[0]["spec"]["devices"] *= 2
    reply = ask(allocate(slices=slices))

    assert (reply["ok"], reply["scope"]) == (False, "node")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"expression": 'device.driver == "a"'}, {"match": True}),
        ({"expression": 'device.attributes["a"].x == 4'}, {"match": False}),
        ({"expression": 'device.attributes["a"].x'}, {"value": {"int": 3}}),
        ({"expression": "device.driver"}, {"value": {"string": "a"}}),
        ({"expression": "[1, 2]"}, {"value": {"ints": [1, 2]}}),
        ({"expression": 'device.attributes["a"].v'}, {"value": {"version": "1.2.3"}}),
        ({"expression": "device.allowMultipleAllocations"}, {"match": False}),
        ({"expression": "device.allowMultipleAllocations", "env": "new"}, {"match": False}),
    ],
)
def test_an_expression(body: dict[str, Any], expected: dict[str, Any]) -> None:
    device = {"driver": "a", "attributes": {"x": {"int": 3}, "v": {"version": "1.2.3"}}}

    assert ask({"id": 1, "kind": "cel", "device": device, **body}) == {"id": 1, **expected}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"expression": "1 +"}, "compileError"),
        ({"expression": "device.nothing"}, "compileError"),
        ({"expression": "device.allowMultipleAllocations", "env": "new", "features": "none"}, "compileError"),
        ({"expression": 'device.attributes["a"].y == 1'}, "runtimeError"),
        ({"expression": "true", "device": {"driver": "a", "attributes": {"x": {}}}}, "runtimeError"),
    ],
)
def test_an_expression_that_fails(body: dict[str, Any], kind: str) -> None:
    reply = ask({"id": 1, "kind": "cel", "device": {"driver": "a"}, **body})

    assert set(reply) == {"id", kind}


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"kind": "allocate"}',
        b'{"kind": "allocate", "node": 1}',
        b'{"kind": "cel", "expression": "true", "env": "old"}',
        b'{"kind": "cel", "expression": "true", "features": "some"}',
        b'{"kind": "cel", "expression": "true", "features": ["Some"]}',
        b'{"kind": "something"}',
        b"[" * 100_000,
    ],
)
def test_what_cannot_be_read_is_answered_too(line: bytes) -> None:
    reply = ask(line)

    assert (reply["ok"], reply["scope"]) == (False, "fatal")
    assert reply["error"]


def test_a_bad_quantity_is_an_error_that_shows_it() -> None:
    question = allocate()
    question["slices"][0]["spec"]["devices"][0]["capacity"]["size"]["value"] = "much"

    assert "'much'" in ask(question)["error"]


def test_answers_come_in_order_and_a_bad_line_costs_only_the_exit_code() -> None:
    done = run(text="\n".join((json.dumps(allocate(id=1)), "{", "", json.dumps(allocate(id=3)))))

    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [1, None, 3]
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--bench", "/does/not/exist", "1"], "No such file"),
        (["--bench", __file__, "1"], "JSON"),
        (["--bench", __file__, "soon"], "soon"),
        (["--wrong"], "usage"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(arguments: list[str], text: str) -> None:
    done = run(*arguments)

    assert done.returncode == 1
    assert text in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_benchmark(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps(cluster(20, devices=2, allocated=50)))
    done = run("--bench", str(file), "0.01")
    report = json.loads(done.stdout)["scenarios"]

    assert done.returncode == 0
    assert {name: own["node"] for name, own in report.items()} == {
        "local-first": "node-0000",
        "local-last": "node-0019",
        "fabric-first": "node-0000",
        "fabric-last": "node-0019",
    }
    assert all(own["msPerDecision"] > 0 for own in report.values())


def test_a_scenario_that_comes_out_otherwise_is_an_error(tmp_path: Path) -> None:
    load = cluster(3, devices=1, allocated=2)
    load["scenarios"][0]["expectNode"] = "node-0002"
    file = tmp_path / "cluster.json"
    file.write_text(json.dumps(load))
    done = run("--bench", str(file), "0.01")

    assert done.returncode == 1
    assert "expected node node-0002" in done.stderr


def test_answers_do_not_depend_on_hash_seeds() -> None:
    questions = "\n".join(json.dumps(allocation_case(seed)) for seed in range(60))
    answers = []
    for seed in ("0", "1", "12345"):
        lines = [json.loads(line) for line in run(text=questions, PYTHONHASHSEED=seed).stdout.splitlines()]
        for line in lines:
            for allocation in line.get("allocations", ()):
                for result in allocation["devices"].get("results", ()):
                    result.pop("shareID", None)
        answers.append(lines)

    assert len(answers[0]) == 60
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.parametrize(
    ("features", "variant"),
    [
        (None, "incubating"),
        ("all", "experimental"),
        ("none", "stable"),
        (["AdminAccess", "PartitionableDevices"], "stable"),
        (["ConsumableCapacity"], "incubating"),
        (["ListTypeAttributes"], "experimental"),
    ],
)
def test_features_decide_which_allocator_is_followed(features: Any, variant: str) -> None:
    assert Features.of(features).variant == variant


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_million_devices_show_progress_and_stay_in_bounds() -> None:
    script = (
        "import json,resource,sys\n"
        "from dynamic_memory.allocation.__main__ import main\n"
        "code = main([])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
        "sys.exit(code)\n"
    )
    device = {"attributes": {"kind": {"string": "local"}}, "capacity": {"size": {"value": "4Gi"}}}
    pool = {"generation": 1, "resourceSliceCount": 1}
    slices = [
        {
            "metadata": {"name": f"s{number}"},
            "spec": {
                "driver": "dra.memory",
                "pool": {"name": f"p{number}", **pool},
                "allNodes": True,
                "devices": [{"name": f"d{index}", **device} for index in range(100)],
            },
        }
        for number in range(10_000)
    ]
    question = json.dumps(allocate(slices=slices)) + "\n"
    done = subprocess.run(
        [sys.executable, "-c", script], input=question, capture_output=True, text=True, check=False, timeout=800
    )

    assert json.loads(done.stdout)["ok"] is True
    assert "1000000 devices read" in done.stderr
    assert int(done.stderr.splitlines()[-1]) < 2 * 1024 * 1024
