# SPDX-License-Identifier: Apache-2.0
"""What the NRI plugin mends: containers that differ from their claims, resizes that would wipe them (N15 to N17)."""

from __future__ import annotations

import pytest
from tests.unit.driver.nri_world import FACTS, GIB, MIB, Mode, grant, huge, limits, resources

from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.driver.records import Records
from dynamic_memory.nri.proto import nri_pb2 as pb


async def test_N15_what_differs_is_mended_at_synchronize(either):
    await either.prepare(1, huge(1, 64 * MIB), grant(1, GIB))
    await either.prepare(2, grant(0, GIB, mode=Mode.ADVISE), pod="pod-b")
    right = resources(memory=GIB, mems="1", hugepages={"2MB": 64 * MIB, "1GB": 0})
    lost = either.container(claims=(1,), state=pb.CONTAINER_RUNNING)
    same = either.container(
        claims=(2,),
        pod="pod-b",
        state=pb.CONTAINER_RUNNING,
        linux=pb.LinuxContainer(resources=resources(mems="0", hugepages={"2MB": 0, "1GB": 0})),
    )
    plain = either.container("plain", pod="pod-b", state=pb.CONTAINER_RUNNING)
    pods = [either.sandbox(), either.sandbox("pod-b")]
    (update,) = await either.synchronize(pods, [lost, same, plain])
    assert update.container_id == lost.id
    assert update.linux.resources == right
    await either.plugin._repair
    assert either.pod_limit() == 64 * MIB


@pytest.mark.parametrize(
    ("has", "changes"),
    [
        ({"mems": "0"}, {"mems": "0-1"}),  # what the static memory manager gave stays
        ({"hugepages": {"2MB": MIB, "1GB": 0}}, {"hugepages": {"2MB": 64 * MIB, "1GB": 0}}),
        ({"memory": 2 * GIB}, {"memory": GIB}),
        ({"memory": GIB // 2}, {}),  # the spec says less than the claim
    ],
    ids=["mems", "hugepages", "memory-more", "memory-less"],
)
async def test_N15_only_what_differs_is_said(world, has, changes):
    await world.prepare(1, huge(1, 64 * MIB), grant(1, GIB))
    right = {"memory": GIB, "mems": "1", "hugepages": {"2MB": 64 * MIB, "1GB": 0}}
    linux = pb.LinuxContainer(resources=resources(**{**right, **has}))
    runs = world.container(claims=(1,), state=pb.CONTAINER_RUNNING, linux=linux)
    updates = await world.synchronize([world.sandbox()], [runs])
    assert [update.linux.resources for update in updates] == ([resources(**changes)] if changes else [])


async def test_N15_what_another_process_prepared_is_read_before_its_container_is_judged(either):
    """A driver that ends answers calls in hand after the next one has read the records, and is connected."""
    mine, others = either.records, Records(either.folder / "state" / "claims")
    await others.load()
    await either.prepare(1, huge(1, 64 * MIB), records=others)
    await either.prepare(2, huge(0, 32 * MIB), records=others, pod="pod-b")
    either.records = others
    runs = either.container(claims=(1,), state=pb.CONTAINER_RUNNING)
    thief = either.container(claims=(2,), name="thief", state=pb.CONTAINER_RUNNING)
    either.records = mine
    updates = await either.synchronize([either.sandbox()], [runs, thief])
    assert {update.container_id: limits(update.linux.resources) for update in updates} == {
        runs.id: {"2MB": 64 * MIB, "1GB": 0},
        thief.id: {"2MB": 0, "1GB": 0},
    }
    await either.plugin._repair
    assert either.pod_limit() == 64 * MIB


async def test_N16_one_bad_container_costs_the_others_nothing(either):
    await either.prepare(1, huge(0, 64 * MIB))
    await either.prepare(2, grant(2, far=True), containers=("movable",))
    either.plugin.facts = Facts(pages=FACTS.pages)
    bad = [
        either.container("orphan", pod="nobody"),
        either.container("malformed", env=["DRAMEMORY_x"], state=pb.CONTAINER_RUNNING),
        either.container("movable", (2,), state=pb.CONTAINER_RUNNING),
        either.container("unknown", (9,), state=pb.CONTAINER_RUNNING),
        either.container("stopped", (1,), state=pb.CONTAINER_STOPPED),
        either.container("no-cgroup", pod="pod-b", state=pb.CONTAINER_RUNNING),
    ]
    good = either.container(claims=(1,), state=pb.CONTAINER_RUNNING)
    sandboxes = [either.sandbox(), pb.PodSandbox(id="pod-b-sandbox-0", uid="pod-b")]
    updates = await either.synchronize(sandboxes, [*bad, good])
    assert good.id in [update.container_id for update in updates]
    await either.plugin._repair
    assert either.pod_limit() == 64 * MIB


@pytest.mark.parametrize(
    ("asked", "memory"),
    [
        ({"memory": 2 * GIB, "mems": "0"}, GIB),
        ({"memory": GIB // 2}, GIB // 2),
        ({"memory": -1}, GIB),
        ({}, None),
    ],
    ids=["more", "less", "unlimited", "not-memory"],
)
async def test_N17_a_resize_cannot_wipe_what_the_claims_gave(either, asked, memory):
    await either.prepare(1, huge(1, 64 * MIB), grant(1, GIB))
    container = either.container(claims=(1,))
    await either.create(container)
    (update,) = either.plugin.update_container(either.sandbox(), container, resources(**asked))
    wanted = resources(
        mems="0-1" if asked.get("mems") else "1",
        hugepages={"2MB": 64 * MIB, "1GB": 0},
        **({"memory": memory} if memory else {}),
    )
    assert update.linux.resources == wanted


async def test_N17_other_containers_are_resized_as_the_kubelet_likes(world):
    await world.prepare(1, huge())
    other = world.container("other")
    await world.create(other)
    assert world.plugin.update_container(world.sandbox(), other, resources(memory=GIB)) == []
    assert world.plugin.update_container(world.sandbox("pod-x"), other, resources(memory=GIB)) == []
