# SPDX-License-Identifier: Apache-2.0
"""A driver works for the claims of its node and for no others, and believes the API server about whose a share is."""

from __future__ import annotations

import pytest

from dynamic_memory.api.kinds import RESOURCE_CLAIMS
from dynamic_memory.driver.calls import NotPrepared
from dynamic_memory.kube.errors import Conflict, Invalid, NotFound
from dynamic_memory.process import clock

pytestmark = pytest.mark.looptime


async def test_rule_1_only_claims_of_the_own_node_are_kept_in_memory(rig):
    rig.add_claim(name="ours")
    rig.add_claim(name="theirs", node="n2")
    rig.add_claim(name="free")
    rig.api.deallocate("free")
    driver = await rig.start()
    await rig.until(lambda: driver.node.claims.informer.synced)

    def kept():
        return sorted(claim.metadata.name for claim in driver.node.claims.all())

    assert kept() == ["ours"]
    rig.api.allocate("free")
    await rig.until(lambda: kept() == ["free", "ours"])
    rig.api.allocate("free", node="n2")
    await rig.until(lambda: kept() == ["ours"])


async def test_I6_nothing_is_done_for_a_claim_of_another_node(rig):
    driver = await rig.start()
    ref = rig.add_claim(name="theirs", node="n2")
    await clock.sleep(60)
    assert await rig.extents() == []
    assert rig.host.made == {}
    assert rig.api.devices("theirs") == []
    assert driver.node.records.all() == []
    with pytest.raises(NotPrepared, match="not allocated to node n1"):
        await rig.prepare(ref)


async def test_I6_an_unprepare_for_a_claim_of_another_node_takes_nothing_from_it(rig):
    await rig.start()
    ref = rig.add_claim(name="theirs", node="n2")
    theirs = rig.fabric.as_node("n2")
    await theirs.add_memory(node="n2", pool="fabric/rack-1", device="cxl0", size=512 << 20, tag=rig.tag("theirs"))
    await rig.unprepare(ref)
    assert await rig.extents() == [rig.tag("theirs")]
    assert rig.api.devices("theirs") == []


@pytest.mark.parametrize("refusal", [Invalid, Conflict, NotFound])
async def test_rule_10_a_refused_report_of_a_share_that_is_gone_undoes_it(rig, refusal, monkeypatch):
    driver = await rig.start()
    applied = []
    real = rig.api.apply

    async def refused(kind, body, **how):
        if kind is not RESOURCE_CLAIMS:
            return await real(kind, body, **how)
        applied.append(body)
        # the watch is late: the refusal is all that the driver hears of it
        monkeypatch.setattr(driver.node.claims.informer, "_handle", lambda *_: None)
        rig.api.deallocate()
        raise refusal(0, "refused", "status.devices: the device is not allocated in the claim")

    monkeypatch.setattr(rig.api, "apply", refused)
    ref = rig.add_claim()
    await rig.until(lambda: applied)
    await rig.until(lambda: driver.node.records.all() == [])
    assert [body["metadata"]["uid"] for body in applied] == [ref.uid]
    assert await rig.extents() == []
    assert rig.host.made == {}


async def test_rule_10_a_report_that_is_refused_for_another_reason_is_made_again(rig, monkeypatch):
    await rig.start()
    left = [Invalid(422, "Invalid", "not today")] * 3
    real = rig.api.apply

    async def refused(kind, body, **how):
        if kind is RESOURCE_CLAIMS and left:
            raise left.pop()
        return await real(kind, body, **how)

    monkeypatch.setattr(rig.api, "apply", refused)
    await rig.attached()
    assert left == []
    assert await rig.extents() == [rig.tag()]
