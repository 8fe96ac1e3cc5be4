# SPDX-License-Identifier: Apache-2.0
"""The conformance suite of the backends, seen from the far end of the service: through the client, over mutual TLS.

The adapter knows nothing but what the client tells it: it composes as the node, releases as an operator, and keeps its
view by Watch alone. So the suite holds only if Watch tells everything, in order.
"""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.unit.fabric.conformance import BackendConformance

from dynamic_memory.api.names import fabric_domain_of, fabric_pool
from dynamic_memory.fabric.backends.interface import Allocation, Changed, Device, Host, View
from dynamic_memory.fabric.errors import Conflicts
from dynamic_memory.fabric.model import Snapshot

CONFIG = """
listen: {listen}
tls: {{ca: {root}/service/ca.crt, certificate: {root}/service/tls.crt, key: {root}/service/tls.key}}
owners: [{{name: c1, ca: {root}/c1.crt, nodes: {{h1: h1, h2: h2, h3: h3}}, pools: [fabric/d1, fabric/d2]}}]
backend:
  simulated:
    state: {root}/state/fabric.json
    domains:
      - name: d1
        extentSize: 128Mi
        devices: [{{name: m1, size: 1Gi, attributes: {{latencyNs: 300}}}}, {{name: m2, size: 512Mi}}]
        hosts: [{{name: h1, window: 1Gi, maxExtents: 3}}, {{name: h2, window: 1Gi, maxExtents: 8}}]
      - name: d2
        extentSize: 128Mi
        devices: [{{name: m1, size: 256Mi}}]
        hosts: [{{name: h3, window: 1Gi, maxExtents: 8}}]
health: null
"""
FIELDS = {"node": "host", "pool": "domain", "device": "device", "bytes": "size"}


class Remote:
    """A backend that is a service far away."""

    simulated = True

    def __init__(self, site) -> None:
        self._nodes = {name: site.node(name) for name in ("h1", "h2", "h3")}
        self._operator = site.role("operator")
        self._watching = self._capacity = None
        self._allocations = {}
        self._listeners = []
        self._news = asyncio.Condition()

    async def open(self):
        self._capacity = await self._operator.get_capacity()
        watch = aiter(self._operator.watch())
        snapshot = await anext(watch)
        assert isinstance(snapshot, Snapshot)
        self._allocations = {share.tag: _allocation(share) for share in snapshot.shares}
        self._watching = asyncio.create_task(self._follow(watch))

    async def _follow(self, watch):
        async for change in watch:
            if change.capacity is not None:
                self._capacity = change.capacity
                changed = Changed(inventory=True)
            elif change.share is not None:
                self._allocations[change.share.tag] = _allocation(change.share)
                changed = None if change.share.release_requested else Changed(tags=(change.share.tag,))
            else:
                del self._allocations[change.removed_tag]
                changed = Changed(tags=(change.removed_tag,))
            for listener in self._listeners if changed else ():
                listener(changed)
            async with self._news:
                self._news.notify_all()

    async def run(self):
        await asyncio.Event().wait()

    async def close(self):
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def refresh(self):
        await self._operator.list_extents()

    def view(self):
        units = {device.domain: device.unit for device in self._capacity.pools}
        devices = [
            Device(
                domain=device.domain,
                name=device.device,
                total=device.total,
                unit=units[device.domain],
                healthy=device.healthy,
                why=device.why,
                attributes=device.attributes,
            )
            for device in self._capacity.pools
        ]
        hosts = [
            Host(
                domain=host.domain,
                name=host.host,
                device=host.device,
                window=host.total,
                max_extents=host.max_extents,
                healthy=host.healthy,
                why=host.why,
            )
            for host in self._capacity.hosts
        ]
        return View(
            devices={device.key: device for device in devices},
            hosts={host.name: host for host in hosts},
            allocations=self._allocations,
        )

    def subscribe(self, listener):
        self._listeners.append(listener)

    async def compose(self, order):
        try:
            share = await self._nodes[order.host].add_memory(
                node=order.host, pool=fabric_pool(order.domain), device=order.device, size=order.size, tag=order.tag
            )
        except Conflicts as error:
            raise Conflicts(error.tag, FIELDS[error.field]) from error
        await self._until(lambda: order.tag in self._allocations)
        return _allocation(share)

    async def release(self, tag):
        await self._operator.remove_memory(tag, force=True)
        await self._until(lambda: tag not in self._allocations)

    async def _until(self, condition):
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)


def _allocation(share):
    domain = fabric_domain_of(share.pool)
    return Allocation(
        tag=share.tag, host=share.node, domain=domain, device=share.device, size=share.size, ranges=share.ranges
    )


class RemoteRig:
    def __init__(self, site) -> None:
        self.site = site
        self.backend = None

    async def open(self):
        if self.backend is not None:
            await self.backend.close()
            await self.site.stop()
        await self.site.start()
        self.backend = Remote(self.site)
        await self.backend.open()
        return self.backend

    async def break_(self, faults):
        self.site.inject(faults)


class TestOverGrpc(BackendConformance):
    @pytest.fixture
    async def rig(self, make_site):
        rig = RemoteRig(make_site(CONFIG))
        yield rig
        if rig.backend is not None:
            await rig.backend.close()
        await rig.site.close()
