# SPDX-License-Identifier: Apache-2.0
"""The service as a process of its own: killed at every step, stopped in the middle, started twice."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import uuid

import msgspec
import pytest
from tests.support.ports import free_port

from dynamic_memory.fabric import steps
from dynamic_memory.fabric.backends.faults import Faults
from dynamic_memory.fabric.client import FabricClient
from dynamic_memory.fabric.errors import Unreachable
from dynamic_memory.fabric.model import RemovedState
from dynamic_memory.process import clock, faults

GIB = 1 << 30
CONFIG = """
listen: 127.0.0.1:{port}
tls: null
owners: [{{name: c1, nodes: {{n1: h1}}, pools: [fabric/d1]}}]
backend:
  simulated:
    state: {root}/fabric.json
    domains:
      - name: d1
        devices: [{{name: m1, size: 4Gi}}]
        hosts: [{{name: h1, window: 4Gi, maxExtents: 4}}]
health: null
"""


class Service:
    def __init__(self, root) -> None:
        self.root = root
        self.port = free_port()
        self.file = root / "service.yaml"
        self.file.write_text(CONFIG.format(port=self.port, root=root))
        self.client = FabricClient.connect(f"127.0.0.1:{self.port}", None, identity="node/n1", deadline=30)
        self.process = None

    async def start(self, fault=""):
        environment = {**os.environ, faults.VARIABLE: fault} if fault else dict(os.environ)
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "dynamic_memory", "service", "--config", str(self.file)),
            env=environment,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(30):
            while self.process.returncode is None:
                with contextlib.suppress(Unreachable):
                    await self.client.list_extents()
                    return
                await clock.sleep(0.02)

    async def ended(self):
        async with asyncio.timeout(30):
            return await self.process.wait()

    def inject(self, injected):
        fresh = self.root / "faults.new"
        fresh.write_bytes(msgspec.json.encode(injected))
        fresh.rename(self.root / "faults.json")


@pytest.fixture
async def service(tmp_path):
    service = Service(tmp_path)
    yield service
    await service.client.close()
    if service.process is not None and service.process.returncode is None:
        service.process.kill()
        await service.process.wait()


def wanted():
    return {"node": "n1", "pool": "fabric/d1", "device": "m1", "size": GIB, "tag": str(uuid.uuid4())}


def test_every_step_of_the_service_is_tried():
    assert set(faults.names("service")) == set(STEPS)


STEPS = {
    # step: whether the addition or removal that died there has happened
    steps.ADD_BEFORE_COMPOSE: False,
    steps.ADD_BEFORE_WRITE: False,
    steps.ADD_COMPOSED: True,
    steps.REMOVE_BEFORE_RELEASE: False,
    steps.REMOVE_BEFORE_WRITE: False,
    steps.REMOVE_RELEASED: True,
}


@pytest.mark.parametrize(("step", "happened"), STEPS.items(), ids=STEPS.keys())
async def test_I5_killed_at_any_step_and_repeated_it_ends_the_same(service, step, happened):
    await service.start(fault=step)
    first, second = wanted(), wanted()
    adding = ".add-" in step
    if not adding:
        await service.client.add_memory(**first)

    call = service.client.add_memory(**first) if adding else service.client.remove_memory(first["tag"])
    with pytest.raises(Unreachable):
        await call
    assert await service.ended() == -signal.SIGKILL

    await service.start()
    shares = (await service.client.list_extents()).shares
    assert [share.tag for share in shares] == ([first["tag"]] if adding is happened else [])
    if adding:
        share = await service.client.add_memory(**first)
        assert shares in {(), (share,)}
    else:
        removed = await service.client.remove_memory(first["tag"])
        assert removed.state is (RemovedState.UNKNOWN if happened else RemovedState.DONE)
    await service.client.add_memory(**second)
    device = (await service.client.get_capacity()).pools[0]
    assert device.total - device.free == (2 if adding else 1) * GIB


async def test_SIGTERM_lets_an_operation_end_and_ends_watches(service):
    await service.start()
    service.inject(Faults(latency={"add": 0.5}))
    watch = aiter(service.client.watch())
    await anext(watch)
    adding = await begun(service)

    service.process.terminate()

    with pytest.raises(Unreachable):
        await _exhaust(watch)
    assert await service.ended() == 0
    share = await adding
    await service.start()
    assert (await service.client.list_extents()).shares == (share,)


async def begun(service):
    """Begin an addition; it has come to the service, for a call that was made after it on its connection has."""
    adding = asyncio.create_task(service.client.add_memory(**wanted()))
    await clock.sleep(0)
    await service.client.list_extents()
    return adding


async def _exhaust(watch):
    async for _ in watch:
        pass


async def test_an_operation_that_takes_too_long_does_not_hold_up_the_end(service):
    await service.start()
    service.inject(Faults(latency={"add": 60.0}))
    adding = await begun(service)

    service.process.terminate()

    assert await service.ended() == 0
    with pytest.raises(Unreachable):
        await adding


async def test_a_configuration_that_cannot_be_used_is_refused_at_once(service):
    service.file.write_text(service.file.read_text().replace("127.0.0.1", "0.0.0.0"))
    await service.start()

    assert await service.ended() == 2
