# SPDX-License-Identifier: Apache-2.0
"""Whatever is wrong with the input: one clear line, exit code 1, never a traceback; and what is large is still read."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.unit.prototype.worlds import VERSION, claim, class_, decide, devices, example, pod, pool, run, world_of

from dynamic_memory.allocation.prototype.errors import SearchTooLong
from dynamic_memory.allocation.prototype.loader import Loader
from dynamic_memory.cli.convert import convert
from dynamic_memory.cli.gen import gen
from dynamic_memory.errors import InvalidInput

POOL = pool("p", "n", "d", ["{name: a, attributes: [{name: x, intValue: 1}]}", "{name: b}"])
USE = pod("q", "deviceClaims: {devices: [{name: g, class: k}]}")
BOMB = "[1,2,3,4,5,6,7,8,9]"
LOOPS = "".join(f"{BOMB}.all({name}, " for name in "abcdefg") + "a + b + c + d + e + f + g > 0" + ")" * 7
CLASS = f"apiVersion: {VERSION}\nkind: DeviceClass\n"
META = CLASS + "metadata: {name: %s, labels: {%s}}\nspec: {selector: {matchLabels: {%s}}}\n---\n"
HEAD = f"apiVersion: {VERSION}\nkind: DevicePool\nmetadata: {{name: p}}\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)

BAD = {
    "malformed YAML": ("a: [", "f.yaml: document 1: expected YAML"),
    "tabs": ("a:\n\t- b", "expected YAML"),
    "unknown tag": ("a: !!python/object:os.system x", "expected YAML"),
    "a word": ("hello", "expected an object"),
    "no kind": ("apiVersion: v1", "kind: expected a string"),
    "no name": ("apiVersion: v1\nkind: Pod", "metadata.name: expected a name"),
    "name of spaces": ("apiVersion: v1\nkind: Pod\nmetadata: {name: 'a b'}", "metadata.name: expected a name"),
    "billion laughs": (LAUGHS, "counting aliases in full"),
    "contains itself": ("&a [*a]", "nested at most"),
    "nested deeply": ("[" * 5000 + "]" * 5000, "expected"),
    "unknown kind": (f"apiVersion: {VERSION}\nkind: Foo\nmetadata: {{name: a}}", "kind: expected one of DeviceClass"),
    "no driver": (f"{HEAD}spec: {{nodeName: n}}", "document 1: spec"),
    "spec is a list": (f"{HEAD}spec: []", "document 1: spec"),
    "bad quantity": (
        f"{HEAD}spec: {{driver: d, sharedResources: [{{name: a, capacity: lots}}]}}",
        "spec.sharedResources[0].capacity: expected a quantity",
    ),
    "two values": (
        f"{HEAD}spec: {{driver: d, attributes: [{{name: a, intValue: 1, stringValue: b}}]}}",
        "spec.attributes[0]",
    ),
    "same device twice": (f"{HEAD}spec: {{driver: d, devices: [{{name: a}}, {{name: a}}]}}", "spec.devices[1].name"),
    "draws from nothing": (
        f"{HEAD}spec: {{driver: d, devices: [{{name: a, sharedResourcesConsumed: {{x: 1}}}}]}}",
        "sharedResourcesConsumed.x",
    ),
    "class of both": (
        f"{CLASS}metadata: {{name: k}}\nspec: {{selector: {{}}, definition: {{driver: d}}}}",
        "either a selector or a definition",
    ),
    "class of neither": (
        f"apiVersion: {VERSION}\nkind: DeviceClass\nmetadata: {{name: k}}\nspec: {{}}",
        "either a selector or a definition",
    ),
    "no pod": (POOL, "expected a pod"),
    "unknown class": (POOL + USE, "the name of a DeviceClass that exists, got 'k'"),
    "unknown claim": (pod("q", "deviceClaims: {claimName: none}"), "a DeviceClaim in namespace default"),
    "unknown class in a claim": (
        POOL + claim("c", "{devices: [{name: g, allOf: [{class: nix}]}]}") + pod("q", "deviceClaims: {claimName: c}"),
        "claim c: spec.devices[0].allOf[0].class",
    ),
    "circle of meta classes": (
        META % ("k", "a: x", "b: x") + META % ("l", "b: x", "a: x") + POOL + USE,
        "in a circle: k -> l -> k",
    ),
    "meta class of itself": (META % ("k", "a: x", "a: x") + POOL + USE, "in a circle: k -> k"),
    "syntax of an expression": (
        class_("k", "d", "device.x ==") + POOL + USE,
        "class k: spec.definition.constraints: 1:12",
    ),
    "not a bool": (class_("k", "d", "1 + 1") + POOL + USE, "must evaluate to bool"),
    "unknown variable": (class_("k", "d", "devcie.x == 1") + POOL + USE, "undeclared reference"),
    "expression bomb": (class_("k", "d", LOOPS) + POOL + USE, "cost limit exceeded"),
    "long expression": (class_("k", "d", "true && " * 2000 + "true") + POOL + USE, "at most 10240 characters"),
    "deep expression": (class_("k", "d", "(" * 1000 + "true" + ")" * 1000) + POOL + USE, "recursion limit"),
    "container names no device": (
        class_("k", "d")
        + POOL
        + pod("q", "deviceClaims: {devices: [{name: g, class: k}]}", containers="[{name: c, devices: [{name: h}]}]"),
        "spec.containers[0].devices[0].name: expected the name of a device",
    ),
    "container names no claim": (
        pod("q", "resourceClaims: []", containers="[{name: c, resources: {claims: [{name: h}]}}]"),
        "spec.containers[0].resources.claims[0].name",
    ),
    "devices below 1": (
        class_("k", "d")
        + POOL
        + claim("c", "{devices: [{name: g, allOf: [{class: k, requests: {devices: 0}}]}]}")
        + pod("q", "deviceClaims: {claimName: c}"),
        "requests.devices: expected at least 1",
    ),
    "most below fewest": (
        class_("k", "d")
        + POOL
        + claim("c", "{devices: [{name: g, allOf: [{class: k, maxDevices: 1, requests: {devices: 2}}]}]}")
        + pod("q", "deviceClaims: {claimName: c}"),
        "maxDevices: expected at least 2",
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_and_exit_code_1(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("f.yaml").write_text(text)

    done = run("--pod", "f.yaml")

    assert done.exit_code == 1, done.output
    errors = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert 1 == len(errors), done.stderr
    assert expected in errors[0]
    assert done.exception is None or isinstance(done.exception, SystemExit)


STABLE = """
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: c}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: k, allocationMode: ExactCount, count: 1}}]}}
---
"""


def test_claim_naming_an_unknown_request() -> None:
    text = STABLE + pod(
        "q",
        "resourceClaims: [{name: m, resourceClaimName: c}]",
        containers="[{name: c, resources: {claims: [{name: m, request: s}]}}]",
    )

    with pytest.raises(
        Exception,
        match=r"spec.containers\[0\].resources.claims\[0\].request: expected a request of claim m \(r\), got 's'",
    ):
        decide(world_of(text=text, classes=False))


@pytest.mark.parametrize("field", ["constraints: [{matchAttribute: a/b, ", "config: [{opaque: {driver: d}, "])
def test_claim_with_rules_for_an_unknown_request(field: str) -> None:
    text = STABLE.replace("{devices: {", "{devices: {" + field + "requests: [s]}], ")
    text += pod("q", "resourceClaims: [{name: m, resourceClaimName: c}]")

    with pytest.raises(
        InvalidInput, match=r"claim c: spec.devices.\w+\[0\].requests\[0\]: expected a request .*\(r\), got 's'"
    ):
        decide(world_of(text=text, classes=False))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--pod"],
        ["--unknown"],
        ["-nodes", "x.yaml"],
        ["--bind", "--pod", "x"],
        ["-kubeconfig", "/nowhere"],
        ["-kubeconfig", "/nowhere", "p"],
        ["--pod", "/nowhere.yaml"],
        ["--pod", "/dev/null"],
        ["-nodes", "/nowhere.yaml", "-claim", "/nowhere.yaml", "pod"],
    ],
    ids=" ".join,
)
def test_wrong_command_lines(arguments: list[str]) -> None:
    done = run(*arguments)

    assert done.exit_code == 1
    assert done.stderr
    assert done.exception is None or isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("command", [gen, convert], ids=["gen", "convert"])
def test_other_commands_fail_in_one_line_too(command: object, tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text("a: [")

    done = CliRunner().invoke(command, [str(file)])  # type: ignore[arg-type]

    assert done.exit_code == 1
    assert 1 == len(done.stderr.splitlines())


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_bytes(b"\xff\xfe\x00kind: \xc3\x28")

    assert run("--pod", file).exit_code == 1


def test_unknown_fields_are_left_out_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(class_("k", "d").replace("driver: d", "driver: d, colour: red") + POOL + USE)

    lenient, strict = run("--pod", file), run("--pod", file, "--strict")

    assert (0, 1) == (lenient.exit_code, strict.exit_code)
    assert "spec.definition.colour: unknown field left out" in lenient.stderr
    assert "spec.definition.colour: expected no such field" in strict.stderr


# --- much input


def many(count: int, per_pool: int = 1000) -> str:
    """Pools of devices that are all equal but for their names, as JSON lines in YAML documents."""
    text = []
    for number in range(count // per_pool):
        listed = ",".join(f'{{"name":"d{index}"}}' for index in range(per_pool))
        text.append(
            f'{{"apiVersion":"{VERSION}","kind":"DevicePool","metadata":{{"name":"p{number}"}},'
            f'"spec":{{"driver":"d","nodeName":"n{number:04}","devices":[{listed}]}}}}'
        )
    return "\n---\n".join(text)


def test_many_devices_are_read_with_progress_in_little_memory() -> None:
    count, told = 40_000, list[int]()
    text = many(count)
    tracemalloc.start()
    try:
        loader = Loader(progress=told.append)
        loader.read(text, "f")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == loader.world.inventory.devices
    assert [10_000, 20_000, 30_000, 40_000] == told
    assert peak < 400 * count, "bytes a device, at most, beside the text"


def test_too_many_devices_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(many(3000))

    done = run("--pod", file, "--max-devices", "2000")

    assert done.exit_code == 1
    assert "spec.devices: expected at most 2000 devices in all" in done.stderr


@pytest.mark.long
@pytest.mark.timeout(600)
def test_million_devices(tmp_path: Path) -> None:
    file = tmp_path / "f.yaml"
    file.write_text(many(1_000_000) + "\n---\n" + class_("k", "d") + USE)

    done = run("--pod", file)

    assert done.exit_code == 0
    assert "read " in done.stderr
    assert "pod default/q: node n0000" in done.stdout


# --- much to try


def test_equal_devices_are_not_tried_again_and_again() -> None:
    """8 of 40 equal devices that can never be enough: all sets are the same one."""
    listed = [
        f"{{name: d{index:02}, claimResourcesProvided: [{{name: memory, capacity: 1Gi}}]}}" for index in range(40)
    ]
    text = pool("p", "n", "d", listed) + class_("k", "d")
    text += claim("c", "{devices: [{name: g, allOf: [{class: k, maxDevices: 8, requests: {memory: 9Gi}}]}]}")

    assert decide(world_of(text=text + pod("q", "deviceClaims: {claimName: c}"))).node is None


def test_search_that_cannot_end_is_given_up_with_a_clear_message() -> None:
    """Half of 40 devices, all different, no sum of which hits an attribute that none has."""
    listed = [f"{{name: d{index:02}, attributes: [{{name: a, intValue: {index}}}]}}" for index in range(40)]
    text = pool("p", "n", "d", listed) + class_("k", "d")
    details = "{class: k, distinctAttributes: [a], requests: {devices: 20}}, {class: k, constraints: 'false'}"
    text += claim("c", f"{{devices: [{{name: g, allOf: [{details}]}}]}}")

    with pytest.raises(SearchTooLong, match=r"node n: no answer after \d+ steps; there are too many ways"):
        decide(world_of(text=text + pod("q", "deviceClaims: {claimName: c}")))


def test_example_files_are_found_by_folder() -> None:
    done = run("--classes", example("classes").parent, "--pod", example("pod-multi-net-0"), "my-pod")

    assert done.exit_code == 0
    assert devices(decide(world_of("pools-one-node-sriov-0", "pod-multi-net-0")))[0] in done.stdout
