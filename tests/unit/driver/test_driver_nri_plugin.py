# SPDX-License-Identifier: Apache-2.0
"""What containers and pods with claims get from the NRI plugin (rows N4 to N6, N14)."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.driver.nri_world import G1, GIB, M2, MIB, OLD, World, grant, huge, limits, resources

from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.driver.nri_plugin import LOOKS
from dynamic_memory.nri.errors import Refused
from dynamic_memory.nri.proto import nri_pb2 as pb


async def adjusted(world, container, **how):
    answer = await world.create(container, **how)
    return answer.adjust.linux


async def test_N4_a_container_without_claims_is_not_touched(either):
    await either.prepare(1, grant(), pod="pod-b")
    assert await either.create(either.container()) is None
    assert await either.create(either.container(env=["PATH=/bin", "DRAMEMORY=x"])) is None
    assert either.pod_limit() == 0


async def test_N5_mems_are_the_union_of_the_claimed_nodes(either):
    await either.prepare(1, grant(0), huge(1))
    await either.prepare(2, grant(3))
    linux = await adjusted(either, either.container(claims=(1, 2)))
    assert linux.resources.cpu.mems == "0-1,3"
    assert not linux.HasField("memory_policy")


async def test_N5_nodes_of_the_static_memory_manager_stay(world):
    await world.prepare(1, grant(1))
    linux = await adjusted(world, world.container(claims=(1,), linux=pb.LinuxContainer(resources=resources(mems="0"))))
    assert linux.resources.cpu.mems == "0-1"


@pytest.mark.parametrize(
    ("grants", "mems", "preferred"),
    [
        ((grant(2, far=True),), "0-2", "2"),
        ((grant(4, far=True), grant(1)), "1,4", "1,4"),
        ((grant(4, far=True), huge(1)), "1,4", "4"),
        # a CXL node that is the node's own is no home for the kernel's own needs either
        ((grant(2),), "0-2", "2"),
        ((huge(2),), "0-2", "2"),
    ],
    ids=["far", "far-and-near", "far-and-huge", "movable", "movable-huge"],
)
async def test_movable_memory_is_never_the_only_one_and_preferred_by_policy(world, grants, mems, preferred):
    await world.prepare(1, *grants)
    linux = await adjusted(world, world.container(claims=(1,)))
    assert linux.resources.cpu.mems == mems
    assert linux.memory_policy == pb.LinuxMemoryPolicy(
        mode=pb.MPOL_PREFERRED_MANY, nodes=preferred, flags=[pb.MPOL_F_STATIC_NODES]
    )
    assert b"\x1a\x01\x00" in linux.memory_policy.SerializeToString()  # the flag is 0, and has to be there


async def test_a_runtime_without_policies_gets_the_nodes_only(world):
    world.runtime = OLD
    world.restart()
    await world.prepare(1, grant(2, far=True))
    linux = await adjusted(world, world.container(claims=(1,)))
    assert linux.resources.cpu.mems == "0-2"
    assert not linux.HasField("memory_policy")


async def test_movable_memory_on_a_node_that_has_nothing_else_is_refused(world):
    world.plugin.facts = Facts(pages=(M2,), home=(), movable=(2,))
    await world.prepare(1, grant(2, far=True))
    with pytest.raises(Refused, match="no node with ordinary memory"):
        await world.create(world.container(claims=(1,)))


async def test_N6_every_size_of_huge_pages_is_limited(either):
    await either.prepare(1, huge(0, 64 * MIB), huge(1, 32 * MIB))
    linux = await adjusted(either, either.container(claims=(1,)))
    assert limits(linux.resources) == {"2MB": 96 * MIB, "1GB": 0}
    assert (either.pod_limit(), either.pod_limit(reserved=True)) == (96 * MIB, 96 * MIB)
    assert either.pod_limit(size="1GB") == 0


async def test_N6_a_claim_without_huge_pages_gives_none(either):
    await either.prepare(1, grant())
    linux = await adjusted(either, either.container(claims=(1,)))
    assert limits(linux.resources) == {"2MB": 0, "1GB": 0}


async def test_N6_huge_pages_of_the_spec_come_on_top_and_survive_a_restart(world):
    await world.prepare(1, huge(0, 64 * MIB))
    spec = pb.LinuxContainer(resources=resources(hugepages={"2MB": 8 * MIB, "1GB": GIB}))
    answer = await world.create(world.container(claims=(1,), linux=spec))
    assert limits(answer.adjust.linux.resources) == {"2MB": 72 * MIB, "1GB": GIB}
    assert (world.pod_limit(), world.pod_limit(size="1GB")) == (72 * MIB, GIB)
    world.restart()
    runs = world.container(
        claims=(1,),
        state=pb.CONTAINER_RUNNING,
        annotations=dict(answer.adjust.annotations),
        linux=pb.LinuxContainer(resources=answer.adjust.linux.resources),
    )
    assert await world.synchronize([world.sandbox()], [runs]) == []


async def test_R11_several_claims_of_a_container_are_added_up(either):
    await either.prepare(1, huge(0, 64 * MIB), grant(0, GIB))
    await either.prepare(2, huge(1, 32 * MIB), huge(1, G1, page=G1), grant(0, GIB))
    linux = await adjusted(either, either.container(claims=(1, 2)))
    assert limits(linux.resources) == {"2MB": 96 * MIB, "1GB": GIB}
    assert linux.resources.memory.limit.value == 2 * GIB
    assert linux.resources.cpu.mems == "0-1"


# --- pods


@pytest.mark.parametrize("version", [1, 2])
async def test_N14_the_pod_may_use_the_sum_of_its_containers(tmp_path, version):
    world = World(tmp_path, version=version)
    await world.prepare(1, huge(0, 64 * MIB), containers=("a",))
    await world.prepare(2, huge(0, 32 * MIB), containers=("b",))
    await world.prepare(3, grant(0, GIB), containers=("c",))
    a, b, c = world.container("a", (1,)), world.container("b", (2,)), world.container("c", (3,))
    spec = pb.LinuxContainer(resources=resources(hugepages={"2MB": 4 * MIB}))
    d = world.container("d", linux=spec)
    seen = []
    for container in (a, b, c, d):
        await world.create(container)
        seen.append((world.pod_limit() // MIB, world.pod_limit(reserved=True) // MIB))
    assert seen == [(64, 64), (96, 96), (96, 96), (100, 100)]
    world.plugin.stop_container(world.sandbox(), a)
    assert (world.pod_limit() // MIB, world.pod_limit(reserved=True) // MIB) == (36, 36)
    world.plugin.remove_container(world.sandbox(), a)
    world.plugin.remove_container(world.sandbox(), b)
    assert world.pod_limit() == 4 * MIB


async def test_N14_a_container_that_came_in_place_of_another_is_not_dropped_with_it(world):
    await world.prepare(1, huge(0, 64 * MIB))
    await world.create(world.container(claims=(1,)))
    await world.create(world.container(claims=(1,), attempt=1))
    world.plugin.remove_container(world.sandbox(), world.container(claims=(1,)))
    assert world.pod_limit() == 64 * MIB


async def test_N14_a_pod_that_cannot_be_given_huge_pages_is_refused(world):
    await world.prepare(1, huge())
    container = world.container(claims=(1,))
    sandbox = world.sandbox()
    sandbox.linux.cgroup_parent = "/kubepods/gone"
    with pytest.raises(Refused, match="cannot be given its huge pages"):
        world.plugin.create_container(sandbox, container)


async def test_N14_what_ended_while_nobody_was_told_is_taken_back(world):
    await world.prepare(1, huge(0, 64 * MIB))
    await world.create(world.container(claims=(1,)))
    world.restart()
    await world.synchronize([world.sandbox()], [])
    await world.plugin._repair
    assert (world.pod_limit(), world.pod_limit(reserved=True)) == (0, 0)


@pytest.mark.looptime
@pytest.mark.parametrize("told", ["pod", "container"])
async def test_the_kubelet_writes_to_the_pod_after_plugins_were_told_and_the_claims_are_set_again(world, told):
    await world.prepare(1, huge(0, 64 * MIB))
    container = world.container(claims=(1,))
    await world.create(container)
    if told == "pod":
        world.plugin.post_update_pod_sandbox(world.sandbox())
    else:
        world.plugin.update_container(world.sandbox(), container, resources(memory=GIB))
    for kind in ("max", "rsvd.max"):
        (world.root / f"kubepods/burstable/podpod-a/hugetlb.2MB.{kind}").write_text("0\n")
    await asyncio.sleep(LOOKS[0] + 0.01)
    assert (world.pod_limit(), world.pod_limit(reserved=True)) == (64 * MIB, 64 * MIB)
    await asyncio.sleep(sum(LOOKS))
    assert not world.plugin._looks, "nothing is left of it"


async def test_what_somebody_else_writes_to_a_pod_is_put_right_as_long_as_something_runs_in_it(world):
    await world.prepare(1, huge(0, 64 * MIB))
    container = world.container(claims=(1,))
    await world.create(container)
    limit = world.root / "kubepods/burstable/podpod-a/hugetlb.2MB.max"
    limit.write_text("0\n")
    await world.plugin.keep_pods()
    assert world.pod_limit() == 64 * MIB
    world.plugin.stop_container(world.sandbox(), container)
    limit.write_text("7\n")
    await world.plugin.keep_pods()
    assert world.pod_limit() == 7, "the kubelet may have removed it by now"
