# SPDX-License-Identifier: Apache-2.0
"""A service that listens on loopback with mutual TLS, for two clusters, each with an authority of its own."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec
import pytest
from prometheus_client import CollectorRegistry
from tests.support.certificates import Authority
from tests.support.fake_fabric import GIB, MIB, FakeRig

from dynamic_memory.fabric.backends.interface import Device, Host
from dynamic_memory.fabric.client import FabricClient
from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.fabric.directory import Owner
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.metrics import Metrics
from dynamic_memory.fabric.server import Server
from dynamic_memory.fabric.service import Service
from dynamic_memory.process.config import loads

# looptime asks for the current event loop before each test. Asked before any was set, asyncio makes one, which nobody
# closes; once "none" has been set, it does not.
asyncio.set_event_loop(None)

CONFIG = """
listen: {listen}
tls: {{ca: {root}/service/ca.crt, certificate: {root}/service/tls.crt, key: {root}/service/tls.key}}
owners:
  - {{name: c1, ca: {root}/c1.crt, nodes: {{n1: h1, n2: h2}}, pools: [fabric/rack-1]}}
  - {{name: c2, ca: {root}/c2.crt, nodes: {{n1: h3}}, pools: [fabric/rack-2]}}
backend:
  simulated:
    state: {root}/state/fabric.json
    domains:
      - name: rack-1
        extentSize: 256Mi
        blockSize: 128Mi
        devices:
          - {{name: cxl0, size: 8Gi, attributes: {{latencyNs: 250, model: sim, volatile: true}}}}
          - {{name: cxl1, size: 4Gi}}
        hosts: [{{name: h1, window: 8Gi, maxExtents: 8}}, {{name: h2, window: 8Gi, maxExtents: 3}}]
      - name: rack-2
        extentSize: 256Mi
        devices: [{{name: cxl0, size: 2Gi}}]
        hosts: [{{name: h3, window: 2Gi, maxExtents: 8}}]
sessionLapse: 50ms
health: null
"""


class Site:
    """Files, authorities, and a service that is started and stopped."""

    def __init__(self, root, authorities, config=CONFIG) -> None:
        self.root = root
        self._config = config
        self.c1, self.c2 = authorities
        self.c1.issue(root / "service", Identity.role("c1", "service"), dns=("fabric.test",), server=True)
        for name, authority in (("c1", self.c1), ("c2", self.c2)):
            (root / f"{name}.crt").write_bytes(authority.pem)
        self.registry = CollectorRegistry()
        self.listen = "127.0.0.1:0"
        self._stack = contextlib.AsyncExitStack()
        self._clients = []
        self.service = self.backend = self.server = None

    def config(self):
        return loads(self._config.format(listen=self.listen, root=self.root).encode(), ServiceConfig)

    async def start(self):
        config = self.config()
        async with contextlib.AsyncExitStack() as stack:
            self.backend = config.backend.open()
            await self.backend.open()
            stack.push_async_callback(self.backend.close)
            self.service = Service(config.directory(), self.backend, lapse=config.session_lapse, limits=config.limits)
            metrics = Metrics(self.service, self.registry)
            stack.callback(metrics.close)
            self.server = await Server.start(config, self.service, metrics)
            stack.push_async_callback(self.server.stop)
            running = asyncio.create_task(self.backend.run())
            stack.callback(running.cancel)
            self.listen = f"127.0.0.1:{self.server.port}"
            self._stack = stack.pop_all()

    async def stop(self):
        await self._stack.aclose()

    def inject(self, faults):
        """Put faults in force as another process would, through the file."""
        path = self.root / "state" / "faults.json"
        fresh = path.with_name("faults.new")
        fresh.write_bytes(msgspec.json.encode(faults))
        fresh.rename(path)

    def client(self, identity, authority=None, **arguments):
        """A client with a fresh certificate for an identity, signed by the authority of its owner."""
        authority = authority or (self.c1 if identity.owner == "c1" else self.c2)
        directory = self.root / f"{identity.owner}-{identity.name}-{len(self._clients)}"
        return self.connect(authority.issue(directory, identity, ca=self.c1.pem), **arguments)

    def connect(self, files, **arguments):
        client = FabricClient.connect(self.listen, files, **{"deadline": 30.0, **arguments})
        self._clients.append(client)
        return client

    def node(self, name="n1", owner="c1", **arguments):
        return self.client(Identity.node(owner, name), **arguments)

    def role(self, name="controller", owner="c1", **arguments):
        return self.client(Identity.role(owner, name), **arguments)

    async def close(self):
        for client in self._clients:
            await client.close()
        await self.stop()


@pytest.fixture(scope="session")
def authorities():
    return Authority(), Authority()


@pytest.fixture
def make_site(tmp_path, authorities):
    """A site with a configuration of its own, not started."""
    return lambda config: Site(tmp_path, authorities, config)


@pytest.fixture
async def site(tmp_path, authorities):
    site = Site(tmp_path, authorities)
    await site.start()
    yield site
    await site.close()


@pytest.fixture
async def rig():
    """Two clusters on one fabric: c1 with n1, n2 on rack-1 (and a second device), c2 with n1 on rack-2."""
    return await FakeRig.open(
        devices=(
            Device(domain="rack-1", name="cxl0", total=8 * GIB, unit=128 * MIB, attributes={"latencyNs": 250}),
            Device(domain="rack-1", name="cxl1", total=4 * GIB, unit=128 * MIB),
            Device(domain="rack-2", name="cxl0", total=2 * GIB, unit=128 * MIB),
        ),
        hosts=(
            Host(domain="rack-1", name="h1", device="port0", window=8 * GIB, max_extents=8),
            Host(domain="rack-1", name="h2", device="port0", window=8 * GIB, max_extents=8),
            Host(domain="rack-2", name="h3", device="port0", window=8 * GIB, max_extents=8),
        ),
        owners=(
            Owner(name="c1", nodes={"n1": "h1", "n2": "h2"}, pools=frozenset({"fabric/rack-1"})),
            Owner(name="c2", nodes={"n1": "h3"}, pools=frozenset({"fabric/rack-2"})),
        ),
    )
