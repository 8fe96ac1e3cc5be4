# SPDX-License-Identifier: Apache-2.0
"""Any history of additions, removals, failures and restarts leaves the books of a fabric in order.

The service runs on the simulated backend; a plain dictionary of what was answered is the model. After each step the
fabric has exactly what the model has (I5), each byte once (I1), nothing beyond device, window or extents (I7), and a
Watch that was never closed has been told the same.
"""

from __future__ import annotations

import asyncio

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.fake_fabric import FakeRig
from tests.unit.fabric.conformance import check_books

from dynamic_memory.fabric.backends.faults import Failure, Faults
from dynamic_memory.fabric.backends.interface import Device, Host
from dynamic_memory.fabric.directory import Owner
from dynamic_memory.fabric.errors import BackendFailure, Conflicts, DeviceDown, Exhausted, FabricError, WindowFull
from dynamic_memory.fabric.identity import OPERATOR, Identity
from dynamic_memory.fabric.model import RemovedState

UNIT = 128 << 20
DEVICES = (
    Device(domain="d1", name="m1", total=8 * UNIT, unit=UNIT),
    Device(domain="d1", name="m2", total=5 * UNIT, unit=UNIT),
)
HOSTS = (
    Host(domain="d1", name="h1", device="port0", window=9 * UNIT, max_extents=3),
    Host(domain="d1", name="h2", device="port0", window=6 * UNIT, max_extents=9),
)
OWNER = Owner(name="c1", nodes={"n1": "h1", "n2": "h2"}, pools=frozenset({"fabric/d1"}))
TAGS = [f"00000000-0000-4000-8000-{number:012d}" for number in range(12)]

orders = st.fixed_dictionaries(
    {
        "tag": st.sampled_from(TAGS),
        "node": st.sampled_from(["n1", "n2"]),
        "device": st.sampled_from(["m1", "m2"]),
        "size": st.integers(1, 6).map(lambda units: units * UNIT),
        "pool": st.just("fabric/d1"),
    }
)


class Fabric(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.rig = self.run(FakeRig.open(devices=DEVICES, hosts=HOSTS, owners=(OWNER,)))
        self.expected = {}
        self.watch()

    def run(self, coroutine):
        return self.runner.run(coroutine)

    def watch(self):
        self.watcher = self.run(self.rig.service.watch(Identity.role("c1", OPERATOR)))
        self.told = {share.tag: share for share in self.run(self.watcher.next()).shares}

    def free(self, device):
        total = next(each.total for each in DEVICES if each.name == device)
        return total - sum(share.size for share in self.expected.values() if share.device == device)

    def used(self, node):
        mine = [share for share in self.expected.values() if share.node == node]
        return sum(share.size for share in mine), sum(len(share.ranges) for share in mine)

    def answered(self, order, answer):
        """Check one answer of AddMemory against the model, and enter it."""
        before = self.expected.get(order["tag"])
        if before is not None:
            same = all(getattr(before, field) == value for field, value in order.items())
            assert answer == before if same else isinstance(answer, Conflicts)
        elif isinstance(answer, Exhausted):
            assert order["size"] > self.free(order["device"]) == answer.have
        elif isinstance(answer, WindowFull):
            host = HOSTS[0 if order["node"] == "n1" else 1]
            used, used_extents = self.used(order["node"])
            assert order["size"] > host.window - used or answer.want_extents > host.max_extents - used_extents
        else:
            assert not isinstance(answer, FabricError)
            self.expected[order["tag"]] = answer

    @rule(order=orders)
    def add(self, order):
        self.answered(order, self.run(self.tried(self.rig.as_node(order["node"]).add_memory(**order))))

    @rule(batch=st.lists(orders, min_size=2, max_size=4, unique_by=lambda order: order["tag"]))
    def add_at_once(self, batch):
        async def together():
            calls = [self.tried(self.rig.as_node(order["node"]).add_memory(**order)) for order in batch]
            return await asyncio.gather(*calls)

        answers = self.run(together())
        known = set(self.expected)
        for order, answer in zip(batch, answers, strict=True):
            if order["tag"] in known:
                self.answered(order, answer)
            elif not isinstance(answer, FabricError):
                self.expected[order["tag"]] = answer

    @rule(order=orders)
    def add_and_remove_at_once(self, order):
        fabric = self.rig.as_node(order["node"])
        holder = self.expected.get(order["tag"])
        if holder is not None and holder.node != order["node"]:
            return

        async def together():
            return await asyncio.gather(
                self.tried(fabric.add_memory(**order)), self.tried(fabric.remove_memory(order["tag"]))
            )

        self.run(together())
        self.expected.pop(order["tag"], None)

    @rule(tag=st.sampled_from(TAGS))
    def remove(self, tag):
        holder = self.expected.pop(tag, None)
        node = "n1" if holder is None else holder.node
        removed = self.run(self.rig.as_node(node).remove_memory(tag))
        assert removed.state is (RemovedState.UNKNOWN if holder is None else RemovedState.DONE)

    @rule(order=orders)
    def add_that_fails(self, order):
        answer = self.run(self.under(Faults(failures=(Failure("add", 1, "no luck"),)), order))
        if not isinstance(answer, BackendFailure):
            self.answered(order, answer)

    @rule(order=orders)
    def add_to_a_device_that_is_down(self, order):
        answer = self.run(self.under(Faults(devices_down={f"d1/{order['device']}": "lost"}), order))
        if not isinstance(answer, DeviceDown):
            self.answered(order, answer)

    @rule()
    def restart(self):
        self.run(self.rig.up())
        self.watch()

    @invariant()
    def I1_I7_the_books_are_in_order(self):
        check_books(self.rig.backend)
        capacity = self.run(self.rig.as_operator().get_capacity())
        for device in capacity.pools:
            held = sum(share.size for share in self.expected.values() if share.device == device.device)
            assert device.total == device.free + held
        for host in capacity.hosts:
            assert (host.used, host.used_extents) == self.used(host.node)
            assert host.used <= host.total
            assert host.used_extents <= host.max_extents

    @invariant()
    def I5_what_was_answered_is_what_there_is(self):
        shares = self.run(self.rig.as_operator().list_extents()).shares
        assert {share.tag: share for share in shares} == self.expected

    @invariant()
    def rule_7_the_watch_was_told_the_same(self):
        while self.watcher._items.qsize():
            change = self.run(self.watcher.next())
            if change.share is not None:
                self.told[change.share.tag] = change.share
            elif change.removed_tag is not None:
                del self.told[change.removed_tag]
        assert self.told == self.expected

    def teardown(self):
        self.runner.close()
        asyncio.set_event_loop(None)

    async def under(self, faults, order):
        self.rig.inject(faults)
        answer = await self.tried(self.rig.as_node(order["node"]).add_memory(**order))
        self.rig.inject(Faults())
        return answer

    async def tried(self, call):
        try:
            return await call
        except FabricError as error:
            return error


TestFabric = Fabric.TestCase
TestFabric.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
