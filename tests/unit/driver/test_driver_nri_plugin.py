# SPDX-License-Identifier: Apache-2.0
"""What containers with claims get from the NRI plugin, and which are refused (rows N4 to N17)."""

from __future__ import annotations

import pytest
from tests.unit.driver.nri_world import FACTS, G1, GIB, M2, MIB, OLD, Mode, World, grant, huge, limits, resources, uid

from dynamic_memory.driver.nri_plan import Facts
from dynamic_memory.nri.errors import Refused
from dynamic_memory.nri.proto import nri_pb2 as pb


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


@pytest.fixture(params=["cdi-shown", "environment-only"])
def either(request, tmp_path):
    """A node whose runtime shows CDI devices, or one that does not."""
    made = World(tmp_path)
    if request.param == "environment-only":
        made.runtime = OLD
        made.restart()
    return made


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
    assert world.plugin.synchronize([world.sandbox()], [runs]) == []


async def test_R11_several_claims_of_a_container_are_added_up(either):
    await either.prepare(1, huge(0, 64 * MIB), grant(0, GIB))
    await either.prepare(2, huge(1, 32 * MIB), huge(1, G1, page=G1), grant(0, GIB))
    linux = await adjusted(either, either.container(claims=(1, 2)))
    assert limits(linux.resources) == {"2MB": 96 * MIB, "1GB": GIB}
    assert linux.resources.memory.limit.value == 2 * GIB
    assert linux.resources.cpu.mems == "0-1"


# --- who may have what


@pytest.mark.parametrize(
    "forged",
    [
        "DRAMEMORY_{victim}_hugepages_1Gi=numanode:0,size:1Ti",
        "DRAMEMORY_{victim}_NUMANodes=0",
        "DRAMEMORY_{unknown}_NUMANodes=0",
        "DYNAMIC_MEMORY_CLAIM_{victim_}=bytes=1",
        "DYNAMIC_MEMORY_CLAIM_x=1",
    ],
)
async def test_N7_variables_of_another_claim_are_refused(either, forged):
    await either.prepare(1, huge(), pod="victim")
    await either.prepare(2, huge())
    entry = forged.format(victim=uid(1), unknown=uid(9), victim_=uid(1).replace("-", "_"))
    for claims in ((), (2,)):
        with pytest.raises(Refused):
            await either.create(either.container(claims=claims, env=[entry]))


async def test_N7_variables_of_the_own_claim_must_be_those_that_it_sets(either):
    await either.prepare(1, huge(0, 64 * MIB))
    with pytest.raises(Refused, match="to another value"):
        await either.create(
            either.container(claims=(1,), env=[f"DRAMEMORY_{uid(1)}_hugepages_2Mi=numanode:0,size:1Gi"])
        )
    with pytest.raises(Refused, match="to another value"):
        await either.create(
            either.container(claims=(1,), env=[f"DRAMEMORY_{uid(1)}_hugepages_1Gi=numanode:0,size:1Gi"])
        )


async def test_N7_variables_without_the_device_are_refused_where_devices_are_shown(world):
    await world.prepare(1, huge(), containers=("app", "other"))
    with pytest.raises(Refused, match="not its device"):
        await world.create(world.container(claims=(1,), shows=False))


async def test_N7_a_device_that_an_annotation_brought_is_refused(world):
    await world.prepare(1, huge(), pod="victim")
    with pytest.raises(Refused, match="victim owns it"):
        await world.create(world.container(claims=(1,)))


@pytest.mark.parametrize(
    "entry",
    [
        "DRAMEMORY_x",
        "DRAMEMORY_{uid}_NUMANodes=",
        "DRAMEMORY_{uid}_NUMANodes=zero",
        "DRAMEMORY_{uid}_NUMANodes=0-99999999999",
        "DRAMEMORY_{uid}_NUMANodes=1,",
        "DRAMEMORY_{uid}_hugepages_2Mi=size:1",
        "DRAMEMORY_{uid}_hugepages_two=numanode:0,size:1Gi",
        "DRAMEMORY_{uid}_memory=numanode:0,size:-1",
        "DRAMEMORY_{uid}_other=1",
        "DRAMEMORY__NUMANodes=0",
    ],
)
async def test_N8_malformed_reserved_variables_refuse_the_container(either, entry):
    await either.prepare(1, grant())
    with pytest.raises(Refused, match="malformed"):
        await either.create(either.container(claims=(1,), env=[entry.format(uid=uid(1))]))


async def test_N8_a_flood_of_names_is_refused_and_not_looked_up(either, monkeypatch):
    looked = []
    monkeypatch.setattr(either.records, "refresh", looked.append)
    for prefix in ("DRAMEMORY_{}_NUMANodes=0", "DYNAMIC_MEMORY_CLAIM_{}=x"):
        with pytest.raises(Refused, match="more than 64"):
            await either.create(either.container(env=[prefix.format(uid(n)) for n in range(100)]))
    assert looked == []


@pytest.mark.parametrize(
    ("steps", "accepted"),
    [
        ([("pod-a", "app", 1)], True),
        ([("pod-a", "app", 1), ("pod-a", "app", 1)], True),
        ([("pod-a", "app", 1), ("pod-b", "app", 2)], True),
        ([("pod-a", "app", 1), ("pod-b", "app", 1)], False),
        ([("pod-a", "app", 1), ("pod-a", "other", 1)], False),
    ],
    ids=["first", "restart", "two-claims-two-pods", "other-pod", "other-container"],
)
async def test_N9_a_claim_is_for_one_container_of_one_pod(either, steps, accepted):
    await either.prepare(1, huge())
    await either.prepare(2, huge(), pod="pod-b")
    *before, last = steps
    for attempt, (pod, name, claim) in enumerate(before):
        assert await either.create(either.container(name, (claim,), pod=pod, attempt=attempt), pod=pod) is not None
    pod, name, claim = last
    container = either.container(name, (claim,), pod=pod, attempt=len(before))
    if accepted:
        assert await either.create(container, pod=pod) is not None
    else:
        with pytest.raises(Refused):
            await either.create(container, pod=pod)


async def test_N10_S3_the_refusal_of_a_pod_leaves_no_trace(either):
    await either.prepare(1, huge(0, 64 * MIB))
    await either.create(either.container(claims=(1,)))
    for pod in ("pod-b", "pod-c", "pod-b"):
        sandbox = either.sandbox(pod)
        either.plugin.run_pod_sandbox(sandbox)
        with pytest.raises(Refused, match="pod-a owns it"):
            await either.create(either.container(claims=(1,), pod=pod), pod=pod)
        assert either.pod_limit(pod) == 0
        either.plugin.remove_pod_sandbox(sandbox)
    assert either.pod_limit() == 64 * MIB
    # and the owner starts again as ever
    await either.create(either.container(claims=(1,), attempt=1))


async def test_N11_S4_the_removal_of_an_old_sandbox_frees_nothing(either):
    await either.prepare(1, huge())
    old, new = either.sandbox(number=0), either.sandbox(number=1)
    either.plugin.run_pod_sandbox(old)
    await either.create(either.container(claims=(1,)))
    either.plugin.run_pod_sandbox(new)
    await either.create(either.container(claims=(1,), attempt=1), sandbox=1)
    either.plugin.remove_container(old, either.container(claims=(1,)))
    either.plugin.remove_pod_sandbox(old)
    assert either.pod_limit() == 64 * MIB
    with pytest.raises(Refused):
        await either.create(either.container(claims=(1,), pod="pod-b"), pod="pod-b")


async def test_N12_S11_a_claim_is_free_as_soon_as_it_is_unprepared(either):
    await either.prepare(1, huge())
    await either.create(either.container(claims=(1,)))
    await either.unprepare(1)
    with pytest.raises(Refused, match="not prepared"):
        await either.create(either.container(claims=(1,), attempt=1))
    await either.prepare(1, huge(), pod="pod-b")
    # the sandbox of the first pod is still there
    assert await either.create(either.container(claims=(1,), pod="pod-b"), pod="pod-b") is not None


async def test_N13_several_claims_are_given_together_or_not_at_all(either):
    await either.prepare(1, huge())
    await either.prepare(2, huge(), pod="pod-b")
    with pytest.raises(Refused):
        await either.create(either.container(claims=(1, 2)))
    assert either.pod_limit() == 0
    assert await either.create(either.container(claims=(1,))) is not None
    assert await either.create(either.container(claims=(2,), pod="pod-b"), pod="pod-b") is not None


async def test_a_claim_that_another_process_of_the_driver_prepared_is_read(either):
    from dynamic_memory.driver.records import Records

    other = Records(either.folder / "state" / "claims")
    await other.load()
    await either.prepare(1, huge(0, 64 * MIB), records=other)
    await either.prepare(2, huge(0, 32 * MIB), records=other)
    assert either.records.get(uid(1)) is None
    container = either.container(claims=(1, 2))
    container.env.extend(f"DRAMEMORY_{uid(n)}_NUMANodes=0" for n in (1, 2))
    linux = await adjusted(either, container)
    assert limits(linux.resources)["2MB"] == 96 * MIB


# --- sharing (node-driver.md, section 4), as far as the runtime's side decides


async def test_S5_a_second_pod_that_started_while_nobody_looked_gets_no_huge_pages(either):
    await either.prepare(1, huge(0, 64 * MIB))
    intruder = either.container(
        claims=(1,),
        pod="pod-b",
        state=pb.CONTAINER_RUNNING,
        linux=pb.LinuxContainer(resources=resources(hugepages={"2MB": 64 * MIB})),
    )
    (update,) = either.plugin.synchronize([either.sandbox("pod-b")], [intruder])
    assert update.container_id == intruder.id
    assert limits(update.linux.resources) == {"2MB": 0, "1GB": 0}
    assert either.pod_limit("pod-b") == 0


async def test_S6_a_restart_while_the_owner_has_no_container_forgets_nothing(either):
    await either.prepare(1, huge())
    await either.create(either.container(claims=(1,)))
    either.restart()
    either.plugin.synchronize([either.sandbox()], [])
    with pytest.raises(Refused, match="pod-a owns it"):
        await either.create(either.container(claims=(1,), pod="pod-b"), pod="pod-b")
    assert await either.create(either.container(claims=(1,), attempt=1)) is not None


async def test_S7_a_container_of_the_owner_is_limited_even_if_the_runtime_shows_nothing(either):
    await either.prepare(1, huge(1, 64 * MIB))
    linux = await adjusted(either, either.container())
    assert limits(linux.resources)["2MB"] == 64 * MIB
    assert linux.resources.cpu.mems == "1"


async def test_S8_variables_of_a_victim_neither_steal_nor_block_its_claim(either):
    await either.prepare(1, huge(), pod="victim")
    with pytest.raises(Refused):
        await either.create(either.container(env=[f"DRAMEMORY_{uid(1)}_NUMANodes=0"]))
    assert await either.create(either.container(claims=(1,), pod="victim"), pod="victim") is not None


async def test_S9_an_init_container_hands_the_claim_over(either):
    await either.prepare(1, huge(0, 64 * MIB), containers=("init", "app"))
    await either.create(either.container("init", (1,)))
    await either.create(either.container("app", (1,)))
    # both are there for a moment: the claim counts once
    assert either.pod_limit() == 64 * MIB
    either.plugin.stop_container(either.sandbox(), either.container("init", (1,)))
    assert either.pod_limit() == 64 * MIB


async def test_S10_containers_may_use_different_requests_of_a_claim(either):
    await either.prepare(
        1,
        huge(0, 64 * MIB, request="left"),
        huge(1, 32 * MIB, request="right"),
        containers={"left": ("one",), "right": ("two",)},
    )
    one = await adjusted(either, either.container("one", keys=(f"{uid(1)}.left",)))
    two = await adjusted(either, either.container("two", keys=(f"{uid(1)}.right",)))
    assert [(limits(x.resources)["2MB"] // MIB, x.resources.cpu.mems) for x in (one, two)] == [(64, "0"), (32, "1")]
    assert either.pod_limit() == 96 * MIB
    with pytest.raises(Refused):
        await either.create(either.container("two", keys=(f"{uid(1)}.left",), attempt=1))


async def test_S12_a_restart_after_a_refusal_is_a_restart_like_any_other(either):
    await either.prepare(1, huge())
    await either.create(either.container(claims=(1,)))
    with pytest.raises(Refused):
        await either.create(either.container(claims=(1,), pod="pod-b"), pod="pod-b")
    either.restart()
    runs = either.container(claims=(1,), state=pb.CONTAINER_RUNNING)
    either.plugin.synchronize([either.sandbox(), either.sandbox("pod-b")], [runs])
    assert await either.create(either.container(claims=(1,), attempt=1)) is not None


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
    world.plugin.synchronize([world.sandbox()], [])
    await world.plugin._repair
    assert (world.pod_limit(), world.pod_limit(reserved=True)) == (0, 0)


async def test_the_kubelet_writes_to_the_pod_and_the_claims_are_set_again(world):
    await world.prepare(1, huge(0, 64 * MIB))
    await world.create(world.container(claims=(1,)))
    for kind in ("max", "rsvd.max"):
        (world.root / f"kubepods/burstable/podpod-a/hugetlb.2MB.{kind}").write_text("0\n")
    world.plugin.post_update_pod_sandbox(world.sandbox())
    assert (world.pod_limit(), world.pod_limit(reserved=True)) == (64 * MIB, 64 * MIB)


# --- drift and resize


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
    (update,) = either.plugin.synchronize(pods, [lost, same, plain])
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
    updates = world.plugin.synchronize([world.sandbox()], [runs])
    assert [update.linux.resources for update in updates] == ([resources(**changes)] if changes else [])


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
    updates = either.plugin.synchronize(sandboxes, [*bad, good])
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


# --- modes of memory


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
