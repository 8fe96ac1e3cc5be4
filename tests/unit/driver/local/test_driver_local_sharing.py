# SPDX-License-Identifier: Apache-2.0
"""Who shares a claim of the node's own memory (rows S): its owner, its containers, and whom it is handed on to."""

from __future__ import annotations

import asyncio

import pytest
from tests.unit.driver.local_rig import env, local_claim, pod_body, result, spec

from dynamic_memory.api.kinds import PODS, RESOURCE_CLAIMS
from dynamic_memory.driver import settings
from dynamic_memory.driver.calls import NotReady
from dynamic_memory.driver.claims import RefusedClaim
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


async def test_S2_an_owner_is_recorded_at_prepare_and_freed_only_by_unprepare(rig):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    found = settings.settings_of(rig.record(ref))
    assert (found.owner.name, found.owner.uid) == ("p1", "uid-p1")
    assert found.may_use("uid-p1", "app", ref.uid)
    assert not found.may_use("uid-p2", "app", ref.uid)
    assert not found.may_use("uid-p1", "other", ref.uid)
    rig.api.reserve("p2", name="near")
    rig.api.put(PODS, pod_body("p2", claims={"mem": "near"}))
    with pytest.raises(NotReady, match="still prepared for pod p1"):
        await rig.prepare(ref)
    await rig.stop()
    await rig.start()
    assert settings.settings_of(rig.record(ref)).owner.uid == "uid-p1", "S6: a restart forgets nobody"
    await rig.unprepare(ref)
    await rig.prepare(ref)
    assert settings.settings_of(rig.record(ref)).owner.uid == "uid-p2", "S11: free at once"


@pytest.mark.parametrize(
    ("pod", "says"),
    [
        (
            {"containers": {"a": [("mem", "")], "b": [("mem", "")]}},
            "containers a and b of pod p1 would share all of it",
        ),
        ({"containers": {"a": [("mem", "x")], "b": [("mem", "x")]}}, "would share request x"),
        ({"containers": {"a": [("mem", "x")], "b": [("mem", "")]}}, "would share request x"),
        (
            {"containers": {"a": [("mem", "")], "b": [("two", "")]}, "claims": {"mem": "near", "two": "near"}},
            "would share all of it",
        ),
        ({"containers": {"a": [("mem", "")]}, "inits": {"s": [("mem", "")]}, "sidecars": ("s",)}, "s and a"),
        ({"inits": {"s": [("mem", "")], "i": [("mem", "")]}, "sidecars": ("s",), "containers": {"a": []}}, "s and i"),
    ],
    ids=["two-containers", "same-request", "request-and-all", "two-names", "sidecar-and-app", "sidecar-and-later-init"],
)
async def test_S1_two_containers_that_run_together_do_not_share(rig, pod, says):
    ref = rig.add(local_claim(result(request="x")), pod=pod_body(**pod))
    with pytest.raises(RefusedClaim, match=says):
        await rig.prepare(ref)
    assert rig.record(ref) is None


@pytest.mark.parametrize(
    "pod",
    [
        {"containers": {"a": [("mem", "")]}, "inits": {"i": [("mem", "")]}},
        {"containers": {"a": [("mem", "x")], "b": [("mem", "y")]}},
        {"containers": {"a": [("mem", "x"), ("mem", "y")]}},
        {"containers": {"a": []}},
        {"containers": {"a": []}, "inits": {"i": [("mem", "")], "s": [("mem", "")]}, "sidecars": ("s",)},
    ],
    ids=["S9-init-then-app", "S10-two-requests", "S10-both-in-one", "nobody", "S9-init-then-sidecar"],
)
async def test_S9_S10_what_is_not_shared_is_prepared(rig, pod):
    ref = rig.add(local_claim(result(request="x"), result(request="y")), pod=pod_body(**pod))
    assert len(await rig.prepare(ref)) == 2


async def test_S10_requests_of_one_claim_have_devices_of_their_own(rig):
    pod = pod_body(containers={"a": [("mem", "x")], "b": [("mem", "y")]})
    ref = rig.add(local_claim(result(request="x"), result(request="y", device="numa2-4ki")), pod=pod)
    devices = await rig.prepare(ref)
    assert [device.cdi_ids for device in devices] == [
        (f"dra.memory/claim=claim-{ref.uid}.x",),
        (f"dra.memory/claim=claim-{ref.uid}.y",),
    ]
    assert [device["name"] for device in spec(rig, ref)["devices"]] == [f"claim-{ref.uid}.x", f"claim-{ref.uid}.y"]
    assert env(rig, ref, 1)[f"DRAMEMORY_{ref.uid}.y_NUMANodes"] == "2"
    found = settings.settings_of(rig.record(ref))
    assert found.may_use("uid-p1", "a", f"{ref.uid}.x")
    assert not found.may_use("uid-p1", "a", f"{ref.uid}.y")


async def test_S4_a_claim_is_handed_on_when_its_pod_was_removed_by_force(rig, monkeypatch):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    await rig.start()  # within the test, whose time is virtual
    alive = {"uid-p1"}
    monkeypatch.setattr(rig.driver._owners, "_lives", lambda uid: uid in alive)
    rig.api.put(PODS, pod_body("p2", claims={"mem": "near"}))
    rig.api.reserve("p2", name="near")
    await clock.sleep(10)
    assert rig.record(ref).owner.uid == "uid-p1", "it is still in the API"
    rig.api.remove(PODS, "p1", "app")
    await clock.sleep(10)
    assert rig.record(ref).owner.uid == "uid-p1", "its containers still run"
    moved = local_claim(result(device="numa2-4ki", size="1Gi"), uid=ref.uid, pods=("p2",))
    rig.api.put(RESOURCE_CLAIMS, moved)
    alive.clear()
    await rig.until(lambda: rig.record(ref).owner.uid == "uid-p2")
    assert [grant.device for grant in rig.record(ref).local] == ["numa2-4ki"], "as it is allocated now"
    assert env(rig, ref)[f"DRAMEMORY_{ref.uid}_NUMANodes"] == "2"
    assert rig.driver.node.records.taken("n1/mem", "numa0-4ki") == 0


async def removed_by_force(rig, monkeypatch):
    """A claim whose first pod is gone, reserved for a second one; nobody hands it on but the test."""
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    await rig.start()  # within the test, whose time is virtual
    monkeypatch.setattr(rig.driver._owners, "changed", lambda _claim: None)
    monkeypatch.setattr(rig.driver._owners, "_lives", lambda _uid: False)
    rig.api.put(PODS, pod_body("p2", claims={"mem": "near"}))
    rig.api.remove(PODS, "p1", "app")
    rig.api.reserve("p2", name="near")
    await rig.until(lambda: rig.driver.node.claims.get(ref.uid).status.reserved_for[0].name == "p2")
    return ref


@pytest.mark.parametrize("step", ["_owner", "_record"])
async def test_what_is_handed_on_while_it_is_given_back_is_not_kept_for_nobody(rig, monkeypatch, step):
    """The kubelet knows nothing of the second pod then, and would never give its part back."""
    ref = await removed_by_force(rig, monkeypatch)
    plugin = rig.driver._plugin
    does = plugin._preparer._ledger if step == "_record" else plugin._preparer
    carry_out, reached, go_on = getattr(does, step), asyncio.Event(), asyncio.Event()

    async def slow(*arguments):
        done = await carry_out(*arguments)
        reached.set()
        await go_on.wait()
        return done

    monkeypatch.setattr(does, step, slow)
    handing = asyncio.ensure_future(rig.driver._owners.hand_on(ref.uid))
    await reached.wait()
    given_back = asyncio.ensure_future(plugin._one(ref, clock.monotonic() + 30, plugin._unprepare))
    await clock.sleep(1)
    go_on.set()
    await asyncio.wait({handing, given_back})
    assert given_back.result() == ((), "")
    assert handing.exception() is None
    assert rig.record(ref) is None
    assert rig.specs() == []


async def test_a_claim_that_another_process_gave_back_is_not_handed_on(rig, monkeypatch):
    ref = await removed_by_force(rig, monkeypatch)
    preparer = rig.driver._plugin._preparer
    owner = preparer._owner

    async def meanwhile(*arguments):
        await rig.unprepare(ref)
        return await owner(*arguments)

    monkeypatch.setattr(preparer, "_owner", meanwhile)
    with pytest.raises(NotReady, match="uid-p1"):
        await rig.driver._owners.hand_on(ref.uid)
    assert rig.record(ref) is None
    assert rig.specs() == []
    assert await rig.driver._owners.hand_on(ref.uid), "nothing is left to do"


async def test_a_claim_that_the_kubelet_asks_about_is_handed_on_later(rig, monkeypatch):
    ref = await removed_by_force(rig, monkeypatch)
    async with rig.driver.node.calls(ref.uid):
        assert not await rig.driver._owners.hand_on(ref.uid)
    assert await rig.driver._owners.hand_on(ref.uid)
    assert rig.record(ref).owner.uid == "uid-p2"


async def test_a_full_disk_delays_handing_on_and_ends_nothing_else(rig, monkeypatch):
    ref = rig.add(local_claim())
    await rig.prepare(ref)
    await rig.stop()
    await rig.start()  # within the test, whose time is virtual
    monkeypatch.setattr(rig.driver._owners, "_lives", lambda _uid: False)
    records = rig.driver.node.records
    update, refused = records.update, []

    async def refuse(key, *_change):
        refused.append(key)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records, "update", refuse)
    rig.api.put(PODS, pod_body("p2", claims={"mem": "near"}))
    rig.api.reserve("p2", name="near")
    rig.api.remove(PODS, "p1", "app")
    await rig.until(lambda: len(refused) > 1)
    assert rig.driver.node.active
    monkeypatch.setattr(records, "update", update)
    await rig.until(lambda: rig.record(ref).owner.uid == "uid-p2")


async def test_a_claim_made_from_a_template_is_recognised_by_its_owner(rig):
    pod = pod_body(containers={"a": [("mem", "")], "b": [("mem", "")]}, claims={})
    pod["spec"]["resourceClaims"] = [{"name": "mem", "resourceClaimTemplateName": "t"}]
    marks = {"resource.kubernetes.io/pod-claim-name": "mem"}
    ref = rig.add(local_claim(annotations=marks, owner="p1"), pod=pod)
    with pytest.raises(RefusedClaim, match="containers a and b"):
        await rig.prepare(ref)
