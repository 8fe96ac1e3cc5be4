# SPDX-License-Identifier: Apache-2.0
"""Orphans from end to end on the fabric's side: the real service on a simulated fabric, and an API server of dicts."""

from __future__ import annotations

import asyncio
import functools
import uuid

import msgspec
import pytest
from tests.support.fake_fabric import MIB, FakeRig

from dynamic_memory.api import core, kinds
from dynamic_memory.controller import collector as module
from dynamic_memory.controller.books import Books
from dynamic_memory.controller.claims import CLAIMS, ClaimView, key_of, shares_of
from dynamic_memory.controller.collector import Collector
from dynamic_memory.controller.config import OrphansConfig
from dynamic_memory.controller.fabricview import FabricView
from dynamic_memory.controller.orphans import OUT_OF_SERVICE
from dynamic_memory.kube.errors import NotFound, Unavailable
from dynamic_memory.kube.interface import ObjectList
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

UNIT = 128 * MIB
LAPSE = 60.0


def claim(name, tag):
    return msgspec.convert(
        {
            "metadata": {"name": name, "namespace": "app", "uid": f"uid-{name}"},
            "status": {
                "allocation": {
                    "devices": {
                        "results": [{"driver": "dra.memory", "pool": "fabric/rack-1", "device": "cxl0", "shareID": tag}]
                    }
                }
            },
        },
        ClaimView,
    )


class Kube:
    """Claims and nodes; `broken` makes every call fail."""

    def __init__(self) -> None:
        self.claims: dict[str, ClaimView] = {}
        self.nodes: dict[str, core.Node] = {"n1": core.Node(), "n2": core.Node()}
        self.broken = False
        self.asked: list[str] = []
        self.before_get = None

    async def list(self, kind, *, consistent=False, **_):
        assert kind is CLAIMS
        assert consistent
        self._check("list")
        return ObjectList(list(self.claims.values()), "1")

    async def get(self, kind, name, *_):
        self._check(f"get {kind.plural}")
        if kind is CLAIMS and self.before_get is not None:
            self.before_get()
        found = self.claims if kind is CLAIMS else self.nodes
        assert kind in {CLAIMS, kinds.NODES}
        if name not in found:
            raise NotFound(404, "NotFound", name)
        return found[name]

    def _check(self, call):
        self.asked.append(call)
        if self.broken:
            raise Unavailable(503, "", "no quorum")


class Recorder:
    def __init__(self) -> None:
        self.events = []

    async def event(self, regarding, *, reason, message, **_):
        self.events.append((regarding.kind, reason, message))


class Rig:
    """A collector with everything around it; `allocate` and `forget` are what the cluster does."""

    def __init__(self, fabric: FakeRig) -> None:
        self.fabric = fabric
        self.kube = Kube()
        self.recorder = Recorder()
        self.books = Books("c1", grace=1.0)
        self.synced = True
        self.view = FabricView(
            fabric.as_controller(),
            self.books,
            refresh=30.0,
            changed=lambda: None,
            hosts_changed=lambda: None,
            freed=lambda _: None,
            connected=lambda *_: None,
        )
        self.collector = Collector(
            kube=self.kube,
            fabric=fabric.as_controller(),
            view=self.view,
            books=self.books,
            synced=lambda: self.synced,
            owner="c1",
            config=OrphansConfig(),
            recorder=self.recorder,
            alert=core.ObjectReference(kind="Lease", name="dynamic-memory-controller"),
        )

    async def allocate(self, name, *, node="n1", tag=None):
        tag = tag or str(uuid.uuid4())
        self.kube.claims[name] = claim(name, tag)
        self.see(name)
        await self.fabric.as_node(node).add_memory(node=node, pool="fabric/rack-1", device="cxl0", size=UNIT, tag=tag)
        await clock.sleep(0.01)
        return tag

    def see(self, name):
        view = self.kube.claims[name]
        self.books.put_claim(key_of(view), view.metadata.uid, [s.tag for s in shares_of(view)], clock.monotonic())

    def forget(self, name):
        del self.kube.claims[name]
        self.books.drop_claim(("app", name), clock.monotonic())

    @property
    def removals(self):
        return [arguments for method, arguments in self.fabric.calls if method == "remove_memory"]


def with_rig(test):
    """Run a test with a rig that is made on the test's own, virtual clock."""

    @functools.wraps(test)
    async def run():
        rig = Rig(await FakeRig.open(lapse=LAPSE))
        watching = asyncio.create_task(rig.view.watch())
        await clock.sleep(0.1)
        try:
            await test(rig)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)

    del run.__wrapped__
    return run


async def driver(rig, node):
    """What the driver of a node does about a request for release."""
    fabric = rig.fabric.as_node(node)
    async for item in fabric.watch():
        share = getattr(item, "share", None)
        if share is not None and share.release_requested:
            await fabric.remove_memory(share.tag)


@with_rig
async def test_rule_6_the_driver_of_a_live_host_is_asked_and_releases(rig):
    task = asyncio.create_task(driver(rig, "n1"))
    tag = await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(6)
    await rig.collector.round()
    await clock.sleep(1)
    assert rig.removals[0] == {"tag": tag, "host_off": False, "force": False}
    assert not rig.books.shares
    assert [kind for kind, reason, _ in rig.recorder.events if reason == "OrphanedMemory"] == ["Node"]
    task.cancel()


@with_rig
async def test_rule_6_without_a_driver_memory_stays_and_is_asked_for_once(rig):
    await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(6)
    for _ in range(3):
        await rig.collector.round()
        await clock.sleep(LAPSE)
    assert len(rig.removals) == 1
    assert len(rig.books.shares) == 1
    assert rig.books.held(clock.monotonic()) == {("fabric/rack-1", "cxl0"): UNIT}
    assert module.ORPHAN_BYTES._value.get() == UNIT


@with_rig
async def test_rule_6_a_host_that_is_proven_off_loses_its_memory(rig):
    tag = await rig.allocate("far")
    rig.forget("far")
    rig.kube.nodes["n1"] = core.Node(spec=core.NodeSpec(taints=[core.Taint(key=OUT_OF_SERVICE, effect="NoExecute")]))
    await clock.sleep(LAPSE + 1)
    await rig.collector.round()
    await clock.sleep(0.1)
    assert rig.removals == [{"tag": tag, "host_off": True, "force": False}]
    assert not rig.books.shares


@with_rig
async def test_rule_6_a_tainted_host_whose_driver_lives_is_only_asked(rig):
    session = asyncio.create_task(anext(aiter(rig.fabric.as_node("n1").watch())))
    stream = rig.fabric.as_node("n1").watch()
    await anext(stream)
    tag = await rig.allocate("far")
    rig.forget("far")
    rig.kube.nodes["n1"] = core.Node(spec=core.NodeSpec(taints=[core.Taint(key=OUT_OF_SERVICE, effect="NoExecute")]))
    await clock.sleep(LAPSE + 1)
    await rig.collector.round()
    assert rig.removals == [{"tag": tag, "host_off": False, "force": False}]
    assert tag in rig.books.shares
    await stream.aclose()
    await session


@with_rig
async def test_rule_6_a_node_object_that_is_gone_proves_nothing(rig):
    tag = await rig.allocate("far")
    rig.forget("far")
    del rig.kube.nodes["n1"]
    await clock.sleep(LAPSE + 1)
    await rig.collector.round()
    assert rig.removals == [{"tag": tag, "host_off": False, "force": False}]
    assert tag in rig.books.shares


@with_rig
async def test_rule_19_a_share_whose_claim_exists_is_left_alone_though_the_cache_lost_it(rig):
    await rig.allocate("far")
    rig.books.drop_claim(("app", "far"), clock.monotonic())
    await clock.sleep(6)
    await rig.collector.round()
    assert "list" in rig.kube.asked
    assert rig.removals == []


@with_rig
async def test_rule_19_the_claim_is_read_again_right_before_the_action(rig):
    tag = await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(6)
    # After the list, the claim is there (a restored object, say): it is seen by the last look.
    rig.kube.before_get = lambda: rig.kube.claims.setdefault("far", claim("far", tag))
    await rig.collector.round()
    assert rig.kube.asked[-1] == "get resourceclaims"
    assert rig.removals == []


@with_rig
async def test_rule_19_a_share_without_a_known_claim_is_looked_for_in_all_claims_again(rig):
    tag = str(uuid.uuid4())
    node = rig.fabric.as_node("n1")
    await node.add_memory(node="n1", pool="fabric/rack-1", device="cxl0", size=UNIT, tag=tag)
    await clock.sleep(7)
    await rig.collector.round()
    assert rig.kube.asked.count("list") == 2
    assert [r["tag"] for r in rig.removals] == [tag]


@with_rig
async def test_rule_19_nothing_is_done_with_a_cache_that_is_not_complete(rig):
    await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(6)
    rig.synced = False
    await rig.collector.round()
    assert (rig.kube.asked, rig.removals) == ([], [])


@with_rig
async def test_rule_19_nothing_is_done_after_an_error(rig):
    await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(6)
    rig.kube.broken = True
    with pytest.raises(Unavailable):
        await rig.collector.round()
    assert rig.removals == []


@with_rig
async def test_rule_19_nothing_is_done_while_the_fabric_does_not_answer(rig):
    await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(6)
    rig.fabric.down()
    await clock.sleep(0.1)
    await rig.collector.round()
    assert (rig.kube.asked, rig.removals) == ([], [])


@with_rig
async def test_rule_19_too_many_at_once_release_nothing_and_tell(rig):
    for number in range(6):
        await rig.allocate(f"far-{number}")
    for number in range(6):
        rig.forget(f"far-{number}")
    await clock.sleep(6)
    await rig.collector.round()
    assert rig.removals == []
    assert [(kind, reason) for kind, reason, _ in rig.recorder.events] == [("Lease", "TooManyOrphans")]
    assert module.STOPPED._value.get() == 1
    await rig.allocate("back", tag=next(iter(rig.books.shares)))
    await rig.collector.round()
    assert module.STOPPED._value.get() == 0
    assert len(rig.removals) == 5


@with_rig
async def test_a_share_without_claim_is_given_time_before_claims_are_listed(rig):
    await rig.allocate("far")
    rig.forget("far")
    await clock.sleep(3)
    await rig.collector.round()
    assert rig.kube.asked == []


@with_rig
async def test_orphans_are_asked_for_again_after_the_service_forgot(rig):
    await rig.allocate("far")
    rig.forget("far")
    running = asyncio.create_task(rig.collector.run())
    await clock.sleep(20)
    assert len(rig.removals) == 1
    await rig.fabric.up()
    await clock.sleep(60)
    assert len(rig.removals) == 2
    running.cancel()
