# SPDX-License-Identifier: Apache-2.0
"""The simulated fabric: the conformance suite in memory and in a file, and what is its own."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest
from tests.unit.fabric.conformance import DEVICES, HOSTS, UNIT, BackendConformance, order

from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric.backends import store
from dynamic_memory.fabric.backends.faults import FaultFile, Faults
from dynamic_memory.fabric.backends.simulated import Simulated
from dynamic_memory.fabric.backends.store import InUse, MemoryStore
from dynamic_memory.fabric.errors import BackendFailure


class MemoryRig:
    """In memory: a new backend on the same store is a restart."""

    def __init__(self) -> None:
        self.store, self.faults, self.backend = MemoryStore(), FaultFile(None), None

    async def open(self):
        self.backend = Simulated(DEVICES, HOSTS, self.store, self.faults)
        await self.backend.open()
        return self.backend

    async def break_(self, faults):
        self.backend.inject(faults)


class FileRig:
    """In a file, faults injected through their file."""

    def __init__(self, directory) -> None:
        self.path = directory / "state" / "fabric.json"
        self.backend = None

    async def open(self):
        self.backend = Simulated.at(self.path, DEVICES, HOSTS)
        await self.backend.open()
        return self.backend

    async def break_(self, faults):
        path = self.path.with_name("faults.json")
        fresh = path.with_name("faults.new")
        fresh.write_bytes(msgspec.json.encode(faults))
        fresh.rename(path)


class TestInMemory(BackendConformance):
    @pytest.fixture
    def rig(self):
        return MemoryRig()


class TestInFile(BackendConformance):
    @pytest.fixture
    async def rig(self, tmp_path):
        rig = FileRig(tmp_path)
        yield rig
        if rig.backend is not None:
            await rig.backend.close()


@pytest.fixture
def fabric_file(tmp_path):
    return tmp_path / "fabric.json"


async def opened(path):
    backend = Simulated.at(path, DEVICES, HOSTS)
    await backend.open()
    return backend


async def test_says_that_it_is_simulated(fabric_file):
    assert Simulated.at(fabric_file, DEVICES, HOSTS).simulated


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", '{"version":2,"allocations":[]}', '{"version":1,"allocations":[],"more":1}'],
)
async def test_a_state_file_that_is_none_is_refused_and_kept(fabric_file, content):
    fabric_file.write_text(content)

    with pytest.raises(InvalidInput, match=r"fabric\.json|version"):
        await opened(fabric_file)
    assert fabric_file.read_text() == content


@pytest.mark.parametrize(
    "change",
    [{"device": "m9"}, {"host": "h9"}, {"size": 3 * UNIT}, {"ranges": [{"device_offset": -UNIT, "size": UNIT}]}],
)
async def test_a_state_that_does_not_match_the_configuration_is_refused(fabric_file, change):
    backend = await opened(fabric_file)
    await backend.compose(order())
    await backend.close()
    state = json.loads(fabric_file.read_text())
    state["allocations"][0].update(change)
    fabric_file.write_text(json.dumps(state))

    with pytest.raises(InvalidInput, match="allocation"):
        await opened(fabric_file)


async def test_two_processes_cannot_have_one_fabric(fabric_file, monkeypatch):
    monkeypatch.setattr(store, "_LOCK_PATIENCE", 0.0)
    backend = await opened(fabric_file)

    with pytest.raises(InUse, match="in use by another process"):
        await opened(fabric_file)

    await backend.close()
    await (await opened(fabric_file)).close()


async def test_a_write_that_fails_fails_the_operation_and_changes_nothing(fabric_file, monkeypatch):
    backend = await opened(fabric_file)
    kept = await backend.compose(order())

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(store.durable, "write", full)
        with pytest.raises(BackendFailure, match="No space left"):
            await backend.compose(order(7 * UNIT))
        with pytest.raises(BackendFailure, match="No space left"):
            await backend.release(kept.tag)

    assert backend.view().allocations == {kept.tag: kept}
    await backend.compose(order(7 * UNIT, host="h1"))
    await backend.close()


async def test_operations_during_a_write_share_the_next(fabric_file, monkeypatch):
    backend = await opened(fabric_file)
    writes = []
    write = store.durable.write

    def counted(path, data, *rest):
        writes.append(len(json.loads(data)["allocations"]))
        write(path, data, *rest)

    monkeypatch.setattr(store.durable, "write", counted)

    await asyncio.gather(*(backend.compose(order(device=device)) for device in ["m1"] * 3 + ["m2"] * 3))

    assert writes[-1] == 6
    assert len(writes) < 6
    await backend.close()


async def test_a_broken_fault_file_changes_nothing_and_is_reported(fabric_file, caplog):
    backend = await opened(fabric_file)
    faults = fabric_file.with_name("faults.json")
    faults.write_text('{"hostsDown": {"h2": "gone"}}')
    await backend.refresh()
    faults.write_text('{"latency": {"add": "soon"}}')

    await backend.refresh()

    assert not backend.view().hosts["h2"].healthy
    assert "not read" in caplog.text
    faults.unlink()
    await backend.refresh()
    assert backend.view().hosts["h2"].healthy
    await backend.close()


@pytest.mark.looptime
async def test_latency_is_that_of_the_operation():
    backend = Simulated.at(None, DEVICES, HOSTS)
    await backend.open()
    backend.inject(Faults(latency={"add": 6.0, "remove": 0.5, "read": 0.1}))
    loop = asyncio.get_running_loop()
    times = []
    wanted = order()
    for call in (backend.compose(wanted), backend.release(wanted.tag), backend.refresh()):
        begin = loop.time()
        await call
        times.append(round(loop.time() - begin, 3))

    assert times == [6.0, 0.5, 0.1]
