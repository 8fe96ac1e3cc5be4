# SPDX-License-Identifier: Apache-2.0
"""Which containers the NRI plugin refuses: variables of others, and claims that have an owner (rows N7 to N13, S)."""

from __future__ import annotations

import pytest
from tests.unit.driver.nri_world import MIB, grant, huge, limits, resources, uid

from dynamic_memory.nri.errors import Refused
from dynamic_memory.nri.proto import nri_pb2 as pb


async def adjusted(world, container, **how):
    answer = await world.create(container, **how)
    return answer.adjust.linux


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
    (update,) = await either.synchronize([either.sandbox("pod-b")], [intruder])
    assert update.container_id == intruder.id
    assert limits(update.linux.resources) == {"2MB": 0, "1GB": 0}
    assert either.pod_limit("pod-b") == 0


async def test_S6_a_restart_while_the_owner_has_no_container_forgets_nothing(either):
    await either.prepare(1, huge())
    await either.create(either.container(claims=(1,)))
    either.restart()
    await either.synchronize([either.sandbox()], [])
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
    await either.synchronize([either.sandbox(), either.sandbox("pod-b")], [runs])
    assert await either.create(either.container(claims=(1,), attempt=1)) is not None
