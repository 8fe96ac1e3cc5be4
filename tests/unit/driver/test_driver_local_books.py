# SPDX-License-Identifier: Apache-2.0
"""Any sequence of Prepare, Unprepare, restarts, reboots and failures: ledger, CDI files and owners always agree."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import tempfile
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.machine import GIB, MIB, Node
from tests.unit.driver.local_rig import LocalRig, local_claim, result

from dynamic_memory.driver import settings as settlement
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.quantity import parse_bytes

TOTAL = {"numa0-4ki": 2 * GIB - 512 * MIB, "numa0-2mi": 512 * MIB, "numa1-4ki": GIB}
SIZES = {"numa0-4ki": ["256Mi", "1Gi"], "numa0-2mi": ["64Mi", "256Mi"], "numa1-4ki": ["512Mi", "768Mi"]}
CLAIMS = range(6)


async def inline(function, *arguments, **keywords):
    return function(*arguments, **keywords)


class Machine:
    """A node on which claims come and go, and a model of what has been promised."""

    def __init__(self, folder: Path) -> None:
        self.rig = LocalRig(folder, [Node(0, 2 * GIB, pools={2 * MIB: 256}), Node(1, GIB, cpus="4-7")])
        self.refs = {}
        self.asked = {}
        self.prepared = {}

    async def open(self):
        self.rig.driver = self.rig.make()
        node = self.rig.driver.node
        node.boot_id = await node.host.boot_id()
        await node.records.load()
        await node.local.read()
        node.active = True
        await self.rig.driver._leftovers.restore_specs()

    def claim(self, number, device, size):
        if number not in self.refs:
            body = local_claim(result(device=device, size=size), name=f"c{number}", pods=(f"p{number}",))
            self.refs[number] = self.rig.add(body)
            self.asked[number] = (device, parse_bytes(size))
        return self.refs[number]

    async def step(self, action, number, device, size):
        if action == "prepare":
            await self._prepare(number, device, size)
        elif action == "unprepare" and number in self.refs:
            await self.rig.unprepare(self.refs[number])
            self.prepared.pop(number, None)
        elif action == "delete" and number in self.refs and number not in self.prepared:
            self.rig.api.delete_claim(f"c{number}")
            del self.refs[number], self.asked[number]
        elif action == "restart":
            await self.open()
        elif action == "reboot":
            shutil.rmtree(self.rig.folder / "cdi", ignore_errors=True)
            await self.open()
        elif action == "full disk" and number in self.refs:
            await self._with_a_full_disk(number)
        self.check()

    async def _prepare(self, number, device, size):
        ref = self.claim(number, device, size)
        name, wanted = self.asked[number]
        held = sum(size for other, (where, size) in self.prepared.items() if where == name and other != number)
        fits = held + wanted <= TOTAL[name]
        try:
            await self.rig.prepare(ref)
        except DynamicMemoryError:
            assert not fits
            assert number not in self.prepared
        else:
            assert fits
            self.prepared[number] = (name, wanted)

    async def _with_a_full_disk(self, number):
        def refuse(_uid, _text):
            raise OSError(28, "No space left on device")

        specs = self.rig.driver.node.specs
        write, specs.write = specs.write, refuse
        try:
            await self.rig.prepare(self.refs[number])
            pytest.fail("prepared without a file")
        except DynamicMemoryError:
            pass
        finally:
            specs.write = write

    def check(self):
        records = self.rig.driver.node.records
        uids = {self.refs[number].uid: number for number in self.prepared}
        assert {record.uid for record in records.all()} == uids.keys()
        assert set(self.rig.specs()) == {f"dra.memory-claim-{uid}.json" for uid in uids}
        for device, total in TOTAL.items():
            held = sum(size for where, size in self.prepared.values() if where == device)
            assert records.taken("n1/mem", device) == held <= total
        for uid, number in uids.items():
            found = settlement.settings_of(records.get(uid))
            assert found.owner.uid == f"uid-p{number}"
            device, size = self.asked[number]
            request = found.requests[uid]
            assert (request.memory or request.hugepages[2 * MIB]) == size
            assert request.nodes == (int(device[4]),)


ACTIONS = st.sampled_from(["prepare", "prepare", "prepare", "unprepare", "delete", "restart", "reboot", "full disk"])
STEPS = st.lists(
    st.tuples(ACTIONS, st.sampled_from(CLAIMS), st.sampled_from(sorted(TOTAL)), st.integers(0, 1)), max_size=25
)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_ledger_files_and_owners_agree_whatever_happens(steps):
    async def run(folder):
        asyncio.to_thread = inline
        machine = Machine(Path(folder))
        await machine.open()
        for action, number, device, choice in steps:
            await machine.step(action, number, device, SIZES[device][choice])

    before = asyncio.to_thread
    try:
        with tempfile.TemporaryDirectory(prefix="dm-") as folder:
            asyncio.run(run(folder))
    finally:
        asyncio.to_thread = before


async def test_C4_prepare_does_not_care_how_many_claims_there_are(tmp_path, monkeypatch):
    """Time of a Prepare beside a few claims and beside 1000, in turns: what else the machine does slows both.

    Each is the best of several, of the processor alone, and without the collector. The disk, whose time has nothing to
    do with their number, is left out: its folder has one more file.
    """
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
    monkeypatch.setattr(asyncio, "to_thread", inline)
    few, many = Machine(tmp_path / "few"), Machine(tmp_path / "many")

    async def once(machine, name):
        ref = machine.rig.add(local_claim(result(size="4Ki"), name=name, pods=(f"p-{name}",)))
        began = time.thread_time()
        await machine.rig.prepare(ref)
        return time.thread_time() - began

    for machine in (few, many):
        await machine.open()
        await once(machine, "first")
    node = many.rig.driver.node
    (pattern,) = node.records.all()
    for number in range(1000):
        uid = f"other-{number}"
        other = msgspec.structs.replace(pattern, key=uid, uid=uid, name=uid)
        await node.records.update(uid, lambda _before, other=other: other)
        node.specs.write(uid, pattern.prepared.spec)
    took = {few: [], many: []}
    gc.disable()
    try:
        for number in range(25):
            for machine, times in took.items():
                times.append(await once(machine, f"c{number}"))
    finally:
        gc.enable()
    assert len(many.rig.specs()) == 1026
    assert min(took[many]) < 3 * min(took[few]), took
