# SPDX-License-Identifier: Apache-2.0
"""Generation v2: rows S60 to S91, on the example files and through the command line."""

from __future__ import annotations

import json

import pytest
from tests.unit.prototype.worlds import SETS, claim, class_, decide, devices, example, pod, pool, run, world_of

from dynamic_memory.allocation.prototype.schedule import Scheduler
from dynamic_memory.cli import main
from dynamic_memory.errors import InvalidInput

F0, N0, N1, M = "node-00-foozer", "node-00-nic0", "node-00-nic1", "node-001-nic-001"
TWO = [f"{F0}/dev-00 {F0}/dev-01"]
APART = [f"{F0}/dev-00", f"{F0}/dev-01"]
VFS = [f"{N0}/pf-0-vf-0 {N0}/pf-0-vf-1"]
NO: list[str] | None = None

ROWS: dict[str, tuple[str, list[str] | None, list[str] | None, list[str] | None, list[str] | None]] = {
    "S60": ("pod-one-container-one-gpu", [f"{F0}/dev-00"], NO, NO, [f"{F0}/dev-00"]),
    "S61": ("pod-two-containers-one-gpu", [f"{F0}/dev-00"], NO, NO, [f"{F0}/dev-00"]),
    "S62": ("pod-one-container-two-gpus-0", TWO, NO, NO, TWO),
    "S63": ("pod-one-container-two-gpus-1", TWO, NO, NO, TWO),
    "S64": ("pod-one-container-two-gpus-2", NO, NO, NO, NO),
    "S65": ("pod-two-containers-two-gpus-0", APART, NO, NO, APART),
    "S66": ("pod-two-containers-two-gpus-1", TWO, NO, NO, TWO),
    "S67": ("pod-two-containers-two-gpus-2", NO, NO, NO, NO),
    "S68": ("pod-one-container-gpu-priority-list", NO, NO, NO, NO),
    "S70": ("pod-one-container-gpu-priority-list-one-vf", NO, NO, NO, NO),
    "S71": ("pod-one-container-one-gpu-one-vf", NO, NO, NO, NO),
    "S72": ("pod-one-container-partial-gpu", NO, NO, NO, NO),
    "S73": ("pod-one-container-split-allocation-gpus", NO, NO, NO, NO),
    "S74": ("pod-one-container-shared-split-allocation-gpus", NO, NO, NO, NO),
    "S75": ("pod-multi-net-0", NO, [f"{N0}/pf-0-vf-0"], NO, [f"{N0}/pf-0-vf-0"]),
    "S76": (
        "pod-multi-net-1",
        NO,
        [f"{N0}/pf-0-vf-0", f"{N0}/pf-0-vf-1", f"{N0}/pf-1"],
        NO,
        [f"{N0}/pf-0-vf-0", f"{N0}/pf-0-vf-1", f"{N0}/pf-1"],
    ),
    "S77": ("pod-multi-net-2", NO, VFS, NO, VFS),
    "S78": ("pod-multi-net-3", NO, VFS, NO, VFS),
    "S79": ("pod-multi-net-4", NO, VFS, [f"{M}/pf-0-vf-0 {M}/pf-0-vf-1"], VFS),
    "S80": ("pod-multi-net-5", NO, NO, [f"{M}/pf-0-vf-0"], [f"{M}/pf-0-vf-0"]),
    "S81": (
        "pod-multi-net-6",
        NO,
        [f"{N0}/pf-0 {N0}/pf-1 {N1}/pf-0"],
        [f"{M}/pf-0 {M}/pf-1-vf-0 {M}/pf-1-vf-1"],
        [f"{N0}/pf-0 {N0}/pf-1 {N1}/pf-0"],
    ),
    "S82": (
        "pod-multi-net-7",
        NO,
        [f"{N0}/pf-0 {N0}/pf-1 {N1}/pf-0 {N1}/pf-1"],
        [f"{M}/pf-0-vf-0 {M}/pf-0-vf-1 {M}/pf-1-vf-0 {M}/pf-1-vf-1"],
        [f"{N0}/pf-0 {N0}/pf-1 {N1}/pf-0 {N1}/pf-1"],
    ),
    "S83": ("pod-multi-net-8", NO, NO, NO, NO),
}
CASES = [
    pytest.param(file, name, answers[index], id=f"{row}-{name}")
    for row, (file, *answers) in ROWS.items()
    for index, name in enumerate(("A", "B", "C", "ABC"))
]


@pytest.mark.parametrize(("file", "pools", "expected"), CASES)
def test_example_pods_on_example_pools(file: str, pools: str, expected: list[str] | None) -> None:
    decision = decide(world_of(*SETS[pools], file))

    assert (None if expected is None else "node-00") == decision.node
    assert (expected or []) == devices(decision)


@pytest.mark.parametrize(("file", "pools", "expected"), CASES)
def test_the_same_through_the_command_line(file: str, pools: str, expected: list[str] | None) -> None:
    arguments = [word for name in SETS[pools] for word in ("--pools", example(name))]

    done = run(*arguments, "--classes", example("classes"), "--pod", example(file), "-o", "json")

    assert done.exit_code == (2 if expected is None else 0)
    document = json.loads(done.stdout)
    assert document["nodeName"] == (None if expected is None else "node-00")
    found = [
        " ".join(f"{entry['devicePoolName']}/{entry['deviceName']}" for entry in found["status"]["allocations"])
        for found in document["claims"]
    ]
    assert (expected or []) == found


# --- S69 to S74: nodes that the examples do not have


def foozers(*models: str, root: str = "r0", memory: str = "") -> str:
    """One node with devices of models, all on one PCIe root."""
    provides = f", claimResourcesProvided: [{{name: memory, capacity: {memory}}}]" if memory else ""
    listed = [
        f"{{name: d{index}, attributes: [{{name: model, stringValue: {model}}}, "
        f"{{name: pcie-root, stringValue: {root}}}]{provides}}}"
        for index, model in enumerate(models)
    ]
    return pool("gpus", "n", "example.com-foozer", listed)


def nic(root: str, kind: str = "pf") -> str:
    values = f"{{name: sriovType, stringValue: {kind}}}, {{name: pcie-root, stringValue: {root}}}"
    device = f"{{name: {kind}, attributes: [{values}]}}"
    return pool("nic", "n", "example.com-sriov", [device])


SMALL = ["foozer-1000"] * 4


@pytest.mark.parametrize(
    ("models", "expected"),
    [
        (SMALL, "d0 d1 d2 d3"),
        ([*SMALL, "foozer-4000"], "d4"),
        ([*SMALL, "foozer-2000", "foozer-2000"], "d4 d5"),
    ],
    ids=["S69-third", "S69-first", "S69-second"],
)
def test_first_alternative_that_is_possible(models: list[str], expected: str) -> None:
    decision = decide(world_of("pod-one-container-gpu-priority-list", text=foozers(*models)))

    assert [" ".join(f"gpus/{name}" for name in expected.split())] == devices(decision)


@pytest.mark.parametrize("root", ["r0", "r1"], ids=["S70-same-root", "S70-other-root"])
def test_list_of_alternatives_with_a_card_on_the_same_root(root: str) -> None:
    world = world_of("pod-one-container-gpu-priority-list-one-vf", text=foozers("foozer-4000") + nic(root))

    decision = decide(world)

    assert (["nic/pf gpus/d0"] if root == "r0" else []) == devices(decision)


@pytest.mark.parametrize("root", ["r0", "r1"], ids=["S71-same-root", "S71-other-root"])
def test_device_and_function_on_the_same_root(root: str) -> None:
    world = world_of("pod-one-container-one-gpu-one-vf", text=foozers("foozer-1000") + nic(root, "vf"))

    assert (["gpus/d0 nic/vf"] if root == "r0" else []) == devices(decide(world))


@pytest.mark.parametrize("memory", ["8Gi", "7Gi"], ids=["S72-fits", "S72-not"])
def test_part_of_a_device(memory: str) -> None:
    decision = decide(world_of("pod-one-container-partial-gpu", text=foozers("x", memory=memory)))

    assert (memory == "8Gi") is (decision.node == "n")


@pytest.mark.parametrize(
    ("memory", "count"),
    [("128Gi", 1), ("64Gi", 2), ("16Gi", 8), ("15Gi", None)],
    ids=["S73-128Gi", "S73-64Gi", "S73-16Gi", "S73-15Gi"],
)
def test_fewest_devices_that_have_it_in_sum(memory: str, count: int | None) -> None:
    world = world_of("pod-one-container-split-allocation-gpus", text=foozers(*["x"] * 8, memory=memory))

    decision = decide(world)

    assert (0 if count is None else count) == sum(len(found.split()) for found in devices(decision))


def sharing(name: str, size: str = "8Gi") -> str:
    detail = f"{{class: example.com-foozer, allowShared: true, requests: {{memory: {size}}}}}"
    spec = f"{{devices: [{{name: gpu, allOf: [{detail}]}}]}}"
    return claim(name, spec) + pod(f"pod-{name}", f"deviceClaims: {{claimName: {name}}}")


@pytest.mark.parametrize("size", ["16Gi"], ids=["S74-two-of-three"])
def test_claims_share_a_device_as_long_as_it_lasts(size: str) -> None:
    text = foozers("x", memory=size) + "".join(sharing(name) for name in "abc")
    world = world_of(text=text)
    scheduler = Scheduler(world, lambda: "")

    placed = []
    for name in "abc":
        decision = scheduler.place(world.sources["default", f"pod-{name}"])
        scheduler.commit(decision)
        placed.append(decision.node)

    assert ["n", "n", None] == placed
    assert [{"name": "memory", "allocation": "8Gi"}] == [
        {"name": part.name, "allocation": str(part.allocation)}
        for part in world.claims["default", "a"].status.allocations[0].allocations
    ]


@pytest.mark.parametrize("block", ["3Gi"], ids=["S74-blocks"])
def test_shares_are_whole_blocks(block: str) -> None:
    text = foozers("x", memory=f"16Gi, blockSize: {block}") + sharing("a") + sharing("b", "7Gi")
    world = world_of(text=text)
    scheduler = Scheduler(world, lambda: "")

    first = scheduler.place(world.sources["default", "pod-a"])
    scheduler.commit(first)
    second = scheduler.place(world.sources["default", "pod-b"])

    assert "9Gi" == first.claims[0].status["allocations"][0]["allocations"][0]["allocation"]
    assert second.node is None, "9Gi and another 9Gi are more than the 15Gi in whole blocks"


# --- configuration


@pytest.mark.parametrize("order", [["bluenet", "rednet", "greennet"]], ids=["S81-configs"])
def test_configs_are_copied_in_order(order: list[str]) -> None:
    world = world_of(*SETS["B"], "pod-multi-net-6")

    status = decide(world).claims[0].status

    assert order == [config["metadata"]["name"] for config in status["claimConfigs"]]
    del world.configs["fabric.example.com/v1alpha1", "IPNetwork", "default", "rednet"]
    waiting = decide(world)
    assert waiting.node is None
    assert "IPNetwork default/rednet" in waiting.pending


@pytest.mark.parametrize(
    ("file", "configs"), [("two-pods-one-gpu-0", []), ("two-pods-one-gpu-1", ["my-sharing-config"])], ids=["S84", "S85"]
)
@pytest.mark.parametrize("pools", ["A", "ABC"])
def test_two_pods_share_a_claim(file: str, configs: list[str], pools: str) -> None:
    world = world_of(*SETS[pools], file)
    scheduler = Scheduler(world, lambda: "")

    first = scheduler.place(world.sources["default", "foozer-0"])
    scheduler.commit(first)
    second = scheduler.place(world.sources["default", "foozer-1"])
    scheduler.commit(second)

    assert [f"{F0}/dev-00"] == devices(first) == devices(second)
    assert first.node == second.node == "node-00"
    assert ["foozer-0", "foozer-1"] == second.claims[0].status["podNames"]
    assert configs == [config["metadata"]["name"] for config in second.claims[0].status["claimConfigs"]]
    again = scheduler.place(world.sources["default", "foozer-1"])
    assert [False] == [outcome.changed for outcome in again.claims]


@pytest.mark.parametrize("kind", ["GPUSharingConfig"], ids=["S85-pending"])
def test_pod_waits_for_its_configuration(kind: str) -> None:
    world = world_of(*SETS["A"], "two-pods-one-gpu-1")
    config = world.configs.pop(("gpu.example.com/v1alpha1", kind, "default", "my-sharing-config"))

    waiting = decide(world, "foozer-0")
    world.put_config(config)

    assert waiting.node is None
    assert f"waiting for {kind} default/my-sharing-config" in waiting.pending
    assert decide(world, "foozer-0").node == "node-00"


@pytest.mark.parametrize("value", [False], ids=["S85-later-edit"])
def test_later_edit_of_a_configuration_does_not_change_the_status(value: bool) -> None:
    world = world_of(*SETS["A"], "two-pods-one-gpu-1")
    scheduler = Scheduler(world, lambda: "")
    scheduler.commit(scheduler.place(world.sources["default", "foozer-0"]))
    key = ("gpu.example.com/v1alpha1", "GPUSharingConfig", "default", "my-sharing-config")
    world.configs[key] = {**world.configs[key], "spec": {"enableSharing": value}}

    second = scheduler.place(world.sources["default", "foozer-1"])

    assert [{"enableSharing": True}] == [config["spec"] for config in second.claims[0].status["claimConfigs"]]


# --- S86 to S89: partitions


def partitions(*profiles: str) -> str:
    """Classes for profiles and a pod that wants one device of each."""
    text = "".join(
        class_(profile.replace("+", "-"), "gpu.nvidia.com/dra", f"device['mig-profile'] == '{profile}'")
        for profile in {*profiles} - {"whole"}
    )
    text += class_("whole", "gpu.nvidia.com/dra")
    entries = ", ".join(
        f"{{class: {profile.replace('+', '-')}{', requests: {memory: 40Gi}' if profile == 'whole' else ''}}}"
        for profile in profiles
    )
    return (
        text
        + claim("c", f"{{devices: [{{name: gpu, allOf: [{entries}]}}]}}")
        + pod("p", "deviceClaims: {claimName: c}")
    )


PARTS = [
    ("S86-seven", ["1g.5gb"] * 7, [f"1g.5gb-{number}" for number in range(7)]),
    ("S86-eight", ["1g.5gb"] * 8, None),
    ("S87", ["3g.20gb", "4g.20gb"], ["3g.20gb-4", "4g.20gb-0"]),
    ("S88-two-4g", ["4g.20gb"] * 2, None),
    ("S88-three-2g", ["2g.10gb"] * 3, ["2g.10gb-0", "2g.10gb-2", "2g.10gb-4"]),
    ("S89", ["whole", "1g.5gb"], None),
]


@pytest.mark.parametrize(("profiles", "expected"), [row[1:] for row in PARTS], ids=[row[0] for row in PARTS])
def test_partitions_of_a_device(profiles: list[str], expected: list[str] | None) -> None:
    decision = decide(world_of(*SETS["D"], text=partitions(*profiles)))

    wanted = [] if expected is None else [" ".join(f"nvidia-00-dgxa100/gpu-0-mig-{part}" for part in expected)]
    assert wanted == devices(decision)
    assert (expected is None) is (decision.node is None)


# --- S90, S91


@pytest.mark.parametrize("driver", ["example.com-foozer", "example.com-barzer"], ids=["S90-foozer", "S90-barzer"])
def test_meta_class_stands_for_each_of_its_leaves(driver: str) -> None:
    text = pool("p", "n", driver, ["{name: d}"]) + pod(
        "x", "deviceClaims: {devices: [{name: g, class: example.com-gpu}]}"
    )

    assert ["p/d"] == devices(decide(world_of(text=text)))


def test_K05_newly_labelled_leaf_is_used_at_once() -> None:
    text = pool("p", "n", "new", ["{name: d}"]) + pod(
        "x", "deviceClaims: {devices: [{name: g, class: example.com-gpu}]}"
    )
    world = world_of(text=text)
    assert decide(world).node is None

    for name, found in world_of(
        text=class_("fresh", "new", labels="vendor: example.com, device-type: gpu"), classes=False
    ).classes.items():
        world.classes[name] = found

    assert ["p/d"] == devices(decide(world))


ADMIN = "{devices: [{name: gpu, allOf: [{class: example.com-foozer, adminAccess: true}]}]}"
LABEL = "resource.kubernetes.io/admin-access"
ALLOWED = f"apiVersion: v1\nkind: Namespace\nmetadata: {{name: default, labels: {{{LABEL}: 'true'}}}}\n---\n"


def test_S91_admin_access_takes_nothing() -> None:
    held = f"{{allocations: [{{devicePoolName: {F0}, deviceName: dev-00}}], podNames: [other]}}"
    ordinary = "{devices: [{name: gpu, allOf: [{class: example.com-foozer}]}]}"
    text = claim("held", ordinary, held) + claim("admin", ADMIN) + ALLOWED
    text += pod("watcher", "deviceClaims: {claimName: admin}")
    text += pod("user", "deviceClaims: {devices: [{name: g, class: example.com-foozer}]}")
    world = world_of(*SETS["A"], text=text)
    scheduler = Scheduler(world, lambda: "")

    watcher = scheduler.place(world.sources["default", "watcher"])
    scheduler.commit(watcher)
    user = scheduler.place(world.sources["default", "user"])

    assert TWO == devices(watcher)
    assert [f"{F0}/dev-01"] == devices(user)


def test_S91_admin_access_is_refused_without_permission() -> None:
    text = claim("admin", ADMIN) + pod("watcher", "deviceClaims: {claimName: admin}")

    with pytest.raises(InvalidInput, match=r"adminAccess.*admin-access"):
        decide(world_of(*SETS["A"], text=text))


def test_K08_distinct_attributes_on_four_cards() -> None:
    cards = "".join(
        pool(f"card-{n}", "n", "example.com-sriov", ["{name: a}", "{name: b}"], f"vendor=v hwdevname=h{n}")
        for n in range(4)
    )

    decision = decide(world_of("pod-multi-net-8", text=cards))

    assert [" ".join(f"card-{number}/a" for number in range(4))] == devices(decision)


def test_K19_pool_without_node_is_usable_from_every_node() -> None:
    text = pool("local", "n1", "other", ["{name: d}"]) + pool(
        "net", "", "example.com-foozer", ["{name: a}", "{name: b}"]
    )
    text += pod("x", "deviceClaims: {devices: [{name: g, class: example.com-foozer}]}")

    decision = decide(world_of(text=text))

    assert "n1" == decision.node
    assert ["net/a"] == devices(decision)


def test_goes_back_over_earlier_choices() -> None:
    """The first device fits both details, the second only one of them."""
    text = pool("p", "n", "d", ["{name: both, attributes: [{name: x, intValue: 1}]}", "{name: one}"])
    text += class_("any", "d") + class_("x", "d", "has(device.x)")
    text += claim("c", "{devices: [{name: g, allOf: [{class: any}, {class: x}]}]}") + pod(
        "q", "deviceClaims: {claimName: c}"
    )

    assert ["p/one p/both"] == devices(decide(world_of(text=text)))


def test_verbose_tells_every_option() -> None:
    options = "\n".join(decide(world_of(*SETS["B"], "pod-multi-net-1"), verbose=True).nodes[0].options)

    assert "node-00-nic0/pf-0 not possible: too little left of shared resource vfs-pf-0 of pool node-00-nic0" in options
    assert "node-00-nic0/pf-0-vf-0 not possible: in use" in options
    assert "node-00-nic0/pf-0 ignored: constraints not met" in options


def test_summary_lines_and_allocations_as_text() -> None:
    done = run(
        "--pools", example(SETS["A"][0]), "--classes", example("classes"), "--pod", example("pod-one-container-one-gpu")
    )

    assert done.exit_code == 0
    assert [
        "node-00: satisfied all claims with score 100",
        "node-01: satisfied all claims with score 100",
        "-" * 31,
        "pod default/foozer: node node-00",
        "- claim foozer-foozer-gpu (P3, new)",
        "  - node-00-foozer/dev-00",
    ] == done.stdout.splitlines()


@pytest.mark.parametrize("file", ["two-pods-one-gpu-0", "two-pods-one-gpu-1"], ids=["S84-cli", "S85-cli"])
def test_several_pods_of_a_file_come_one_after_the_other(file: str) -> None:
    done = run("--pools", example(SETS["A"][0]), "--classes", example("classes"), "--pod", example(file))

    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert ["pod default/foozer-0: node node-00", "pod default/foozer-1: node node-00"] == [
        line for line in lines if line.startswith("pod ")
    ]
    assert 2 == lines.count("  - node-00-foozer/dev-00")


def test_exit_codes_of_the_whole_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["dynamic-memory", "schedule", "--classes", str(example("classes")), "--pools", str(example(SETS["A"][0]))]
    answers = []
    for words in (
        ["--pod", str(example("pod-one-container-one-gpu"))],
        ["--pod", str(example("pod-multi-net-0"))],
        ["--pod", str(example("pod-multi-net-0")), "--legacy-exit"],
        ["--pod", "/nowhere"],
        ["--nonsense"],
    ):
        monkeypatch.setattr("sys.argv", [*common, *words])
        answers.append(main())

    assert [0, 2, 0, 1, 1] == answers
    assert "Traceback" not in capsys.readouterr().err
