# SPDX-License-Identifier: Apache-2.0
"""How the NRI plugin limits and protects memory, by the mode of the claims."""

from __future__ import annotations

import pytest
from tests.unit.driver.nri_world import GIB, M2, MIB, Mode, World, grant, huge, resources, uid

from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.nri.proto import nri_pb2 as pb


async def adjusted(world, container, **how):
    answer = await world.create(container, **how)
    return answer.adjust.linux


@pytest.mark.parametrize(
    ("grants", "native", "limit", "protect"),
    [
        ((grant(0, GIB),), {}, GIB, ""),
        ((grant(0, GIB),), {"memory": GIB // 2}, GIB // 2, ""),
        ((grant(0, GIB),), {"memory": 2 * GIB}, GIB, ""),
        ((grant(0, GIB, mode=Mode.PROTECT),), {}, 0, str(GIB)),
        ((grant(0, GIB, mode=Mode.ADVISE),), {}, 0, ""),
        ((grant(0, GIB), grant(2, GIB, far=True, request="far")), {}, 2 * GIB, ""),
        ((grant(2, GIB, far=True),), {"memory": MIB}, 0, ""),
        ((grant(0, GIB, path="/mnt/x"),), {}, 0, ""),
        ((grant(0, GIB), grant(0, MIB, path="/mnt/x", request="files")), {}, GIB + MIB, ""),
        ((grant(0, GIB), grant(0, MIB, mode=Mode.ADVISE, request="more")), {}, 0, ""),
        ((huge(0, 64 * MIB),), {}, 0, ""),
    ],
    ids=["limit", "spec-less", "spec-more", "protect", "advise", "far-and-near", "far", "files", "files-and-memory",
         "limit-and-advise", "huge"],
)  # fmt: skip
async def test_modes_of_ordinary_memory(world, grants, native, limit, protect):
    keys = (uid(1),) if len({g.request for g in grants}) == 1 else tuple(f"{uid(1)}.{g.request}" for g in grants)
    await world.prepare(1, *grants)
    spec = pb.LinuxContainer(resources=resources(**native))
    linux = await adjusted(world, world.container(keys=keys, linux=spec))
    assert linux.resources.memory.limit.value == limit
    assert linux.resources.HasField("memory") is bool(limit)
    assert linux.resources.unified.get("memory.min", "") == protect


async def test_P3_where_huge_pages_count_as_memory_the_limit_has_room_for_them(world):
    world.plugin.facts = Facts(pages=(M2,), home=(0,), accounting=True)
    await world.prepare(1, grant(0, GIB), huge(0, 64 * MIB))
    linux = await adjusted(world, world.container(claims=(1,)))
    assert linux.resources.memory.limit.value == GIB + 64 * MIB


@pytest.mark.parametrize(
    ("memory", "swap", "expected"), [(2 * GIB, 2 * GIB, GIB), (2 * GIB, 3 * GIB, 2 * GIB), (None, 5 * GIB, GIB)]
)
async def test_a_lower_limit_of_memory_brings_no_swap(world, memory, swap, expected):
    await world.prepare(1, grant(0, GIB))
    how = {"swap": swap} | ({"memory": memory} if memory else {})
    linux = await adjusted(world, world.container(claims=(1,), linux=pb.LinuxContainer(resources=resources(**how))))
    assert linux.resources.memory.swap.value == expected


async def test_protected_memory_is_protected_all_the_way_up(world):
    await world.prepare(1, grant(0, GIB, mode=Mode.PROTECT), containers=("a",))
    await world.prepare(2, grant(0, MIB, mode=Mode.PROTECT), containers=("b",))
    await world.prepare(3, grant(0, MIB, mode=Mode.PROTECT), pod="pod-b")
    a, b = world.container("a", (1,)), world.container("b", (2,))
    await world.create(a)
    await world.create(b)
    await world.create(world.container(claims=(3,), pod="pod-b"), pod="pod-b")
    paths = ("kubepods/burstable/podpod-a", "kubepods/burstable/podpod-b", "kubepods/burstable", "kubepods")
    assert [world.protected(path) for path in paths] == [GIB + MIB, MIB, GIB + 2 * MIB, GIB + 2 * MIB]
    world.plugin.stop_container(world.sandbox(), a)
    assert [world.protected(path) for path in paths] == [MIB, MIB, 2 * MIB, 2 * MIB]
    world.plugin.remove_container(world.sandbox(), b)
    world.plugin.remove_pod_sandbox(world.sandbox())
    world.plugin.remove_pod_sandbox(world.sandbox("pod-b"))
    assert [world.protected(path) for path in paths[2:]] == [0, 0]


async def test_what_the_kubelet_protects_is_never_lowered(world):
    world.sandbox()
    for path in ("kubepods", "kubepods/burstable"):
        (world.root / path / "memory.min").write_text(f"{4 * GIB}\n")
    await world.prepare(1, grant(0, GIB, mode=Mode.PROTECT))
    await world.create(world.container(claims=(1,)))
    world.plugin.stop_container(world.sandbox(), world.container(claims=(1,)))
    assert [world.protected(path) for path in ("kubepods", "kubepods/burstable")] == [4 * GIB, 4 * GIB]
    assert world.protected("kubepods/burstable/podpod-a") == 0


async def test_nothing_is_protected_where_the_kernel_cannot(tmp_path):
    world = World(tmp_path, version=1)
    world.plugin.facts = Facts(pages=(M2,), home=(0,), protects=False)
    await world.prepare(1, grant(0, GIB, mode=Mode.PROTECT))
    linux = await adjusted(world, world.container(claims=(1,)))
    assert dict(linux.resources.unified) == {}
