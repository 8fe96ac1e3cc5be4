# SPDX-License-Identifier: Apache-2.0
"""The controller's process: who leads, and the loops that the leader runs.

The order at the start matters: the signer comes first, because the service, and the controller itself, get their
certificates from it; pools are published only when claims, slices and the fabric are all known, because a value that
is too high is a promise that the fabric cannot keep.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from dynamic_memory.api import core, kinds, names
from dynamic_memory.api.certificates import CertificateSigningRequest
from dynamic_memory.api.core import Node
from dynamic_memory.api.resource import ResourceSlice
from dynamic_memory.controller import authority, claims
from dynamic_memory.controller.books import Books
from dynamic_memory.controller.claims import ClaimView, PodView
from dynamic_memory.controller.collector import Collector
from dynamic_memory.controller.config import ControllerConfig, TlsConfig
from dynamic_memory.controller.fabricview import FabricView
from dynamic_memory.controller.labels import NodeLabels
from dynamic_memory.controller.publisher import PoolPublisher, PoolWriter
from dynamic_memory.controller.signer import Signer
from dynamic_memory.controller.toucher import Toucher
from dynamic_memory.controller.waiting import Waits
from dynamic_memory.controller.watcher import WaitWatcher
from dynamic_memory.errors import DynamicMemoryError, Kind
from dynamic_memory.fabric.client import FabricClient, TlsFiles
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.fabric.model import Share
from dynamic_memory.kube.certificates import CertificateTimeout, keep_fresh, obtain
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.election import LeaderElection
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.kube.informer import Change, Informer, report
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.probe import check_server
from dynamic_memory.kube.queue import WorkQueue, work
from dynamic_memory.kube.slices import SlicePublisher
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff
from dynamic_memory.process.run import Process

__all__ = ["Controller", "main"]

log = logging.getLogger(__name__)

SIGNERS = 2
"""Requests handled at once; each takes a child process of its own for a moment."""


async def main(process: Process, config: ControllerConfig) -> None:
    """Run the controller until it is cancelled.

    Raises:
        UnsupportedCluster: the API server lacks what is needed.
        CertificateDenied: this controller may not have its certificate.

    """
    kube = Client.from_environment(config.kubeconfig)
    try:
        await check_server(kube)
        controller = Controller(process, config, kube, lambda: connect(kube, config))
        if config.election is None:
            await controller.run()
            return
        process.ready.set("election", True)
        election = LeaderElection(kube, config.namespace, config.election.name, config.election.holder)
        await election.run(controller.run)
    finally:
        await kube.close()


async def connect(kube: Kube, config: ControllerConfig) -> Fabric:
    """Return a client of the service; its certificate is obtained first, if it has to be."""
    tls = config.fabric.tls
    if tls is None:
        return FabricClient.connect(config.fabric.address, None, identity=config.identity)
    if tls.obtain:
        await _obtain(kube, config, tls)
    directory = tls.directory
    files = TlsFiles(*(str(directory / name) for name in ("ca.crt", "tls.crt", "tls.key")))
    return FabricClient.connect(config.fabric.address, files)


async def _obtain(kube: Kube, config: ControllerConfig, tls: TlsConfig) -> None:
    while True:
        try:
            await obtain(kube, config.identity, directory=tls.directory, namespace=config.namespace)
        except CertificateTimeout as error:
            log.warning("no certificate yet", extra={"error": str(error)})
        else:
            return


class Controller:
    """What the leader does. `run` may be called again after leadership was lost and won anew.

    Args:
        process: for readiness.
        config: settings.
        kube: API client.
        connect: connects to the service.

    """

    def __init__(
        self, process: Process, config: ControllerConfig, kube: Kube, connect: Callable[[], Awaitable[Fabric]]
    ) -> None:
        self._process = process
        self._config = config
        self._kube = kube
        self._connect = connect

    async def run(self) -> None:
        """Lead until cancelled."""
        checks = ["pools", "fabric", "api server"]
        for check in checks:
            self._process.ready.set(check, False, "starting")
        try:
            async with asyncio.TaskGroup() as group:
                if self._config.authority.enabled:
                    group.create_task(self._sign(), name="signer")
                fabric = await self._connect()
                try:
                    await self._lead(fabric)
                finally:
                    await fabric.close()
        finally:
            # Who does not lead is ready to.
            for check in checks:
                self._process.ready.set(check, True)

    async def _lead(self, fabric: Fabric) -> None:
        rooms = _Rooms(self._process, self._config, self._kube, fabric)
        async with asyncio.TaskGroup() as group:
            tls = self._config.fabric.tls
            if tls is not None and tls.obtain:
                group.create_task(
                    keep_fresh(
                        self._kube,
                        self._config.identity,
                        directory=tls.directory,
                        namespace=self._config.namespace,
                    ),
                    name="certificate",
                )
            rooms.start(group)

    async def _sign(self) -> None:
        """Keep the authority, and sign certificates, for ever."""
        config = self._config
        signs = await self._authority()
        signer = Signer(self._kube, signs, config.rules(), lifetime=config.authority.lifetime)
        queue = WorkQueue()
        requests: Informer[CertificateSigningRequest] = Informer(
            self._kube, kinds.CSRS, fields=f"spec.signerName={names.SIGNER}"
        )

        def changed(change: Change[CertificateSigningRequest]) -> None:
            if change.type != "deleted" and not change.object.status.certificate:
                queue.add(change.object.metadata.name)

        requests.subscribe(changed)
        async with asyncio.TaskGroup() as group:
            group.create_task(requests.run(), name="certificate requests")
            group.create_task(work(queue, signer.handle, workers=SIGNERS), name="signing")

    async def _authority(self) -> authority.Authority:
        backoff = Backoff(initial=0.5, maximum=30.0)
        while True:
            try:
                return await authority.ensure(self._kube, namespace=self._config.namespace, owner=self._config.owner)
            except DynamicMemoryError as error:
                if error.kind is not Kind.RETRY:
                    raise
                log.warning("no authority yet", extra={"error": str(error)})
                await clock.sleep(backoff.next())


class _Rooms:
    """The leader's caches and loops, and what tells which of what."""

    def __init__(self, process: Process, config: ControllerConfig, kube: Kube, fabric: Fabric) -> None:
        self._process = process
        self._kube = kube
        self._settled = asyncio.Event()
        self.books = Books(config.owner, grace=config.publish.settle)
        self.view = FabricView(
            fabric,
            self.books,
            refresh=config.fabric.refresh,
            changed=self._fabric_changed,
            hosts_changed=self._hosts_changed,
            freed=self._freed,
            connected=self._connected,
        )
        self.claims: Informer[ClaimView] = Informer(kube, claims.CLAIMS, keep=claims.concerns_fabric)
        self.pods: Informer[PodView] = Informer(kube, claims.PODS, keep=lambda pod: bool(pod.spec.resource_claims))
        self.nodes: Informer[Node] = Informer(kube, kinds.NODES)
        self.slices: Informer[ResourceSlice] = Informer(
            kube, kinds.RESOURCE_SLICES, fields=f"spec.driver={names.DRIVER}", keep=_is_pool_slice
        )
        self.publisher = PoolPublisher(
            books=self.books,
            capacity=lambda: self.view.capacity,
            existing=lambda: list(self.slices.all()),
            writer=self._writer,
            resync=config.publish.resync,
            ready=lambda ok, why: process.ready.set("pools", ok, why),
        )
        self.labels = NodeLabels(kube, nodes=self.nodes.all, capacity=lambda: self.view.capacity)
        self.toucher = Toucher(claim=self.claims.get, pools=lambda: self.publisher.pools, touch=self.publisher.touch)
        holder = config.election.holder if config.election is not None else "controller"
        recorder = EventRecorder(kube, names.MANAGER_CONTROLLER, holder)
        self.watcher = WaitWatcher(
            Waits(config.waiting.after), self.view, recorder, binding_timeout=config.waiting.binding_timeout
        )
        self.collector = Collector(
            kube=kube,
            fabric=fabric,
            view=self.view,
            books=self.books,
            synced=lambda: self.claims.synced and self.claims.failure is None,
            owner=config.owner,
            config=config.orphans,
            recorder=recorder,
            alert=core.ObjectReference(
                api_version=kinds.LEASES.api_version,
                kind=kinds.LEASES.kind,
                namespace=config.namespace,
                name=config.election.name if config.election is not None else names.MANAGER_CONTROLLER,
            ),
        )
        self.claims.subscribe(self._claim_changed)
        self.pods.subscribe(self._pod_changed)
        self.nodes.subscribe(self._node_changed)
        self.slices.subscribe(self._slice_changed)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Start every loop."""
        for name, loop in (
            ("claims", self.claims.run()),
            ("nodes", self.nodes.run()),
            ("slices", self.slices.run()),
            ("pods", self._pods()),
            ("fabric", self.view.watch()),
            ("capacity", self.view.refresh()),
            ("pools", self._publish()),
            ("labels", self._label()),
            ("touches", self.toucher.run()),
            ("waiting", self.watcher.run()),
            ("orphans", self.collector.run()),
            (
                "health",
                report(
                    (self.claims, self.pods, self.nodes, self.slices),
                    lambda ok, why: self._process.ready.set("api server", ok, why),
                ),
            ),
        ):
            group.create_task(loop, name=name)

    async def _pods(self) -> None:
        # A pod is judged by its claims, so these are known first.
        await self.claims.wait_synced()
        await self.pods.run()

    async def _publish(self) -> None:
        await self.claims.wait_synced()
        await self.slices.wait_synced()
        await self._settled.wait()
        await self.publisher.run()

    async def _label(self) -> None:
        await self.nodes.wait_synced()
        await self._settled.wait()
        await self.labels.run()

    def _writer(self, pool: str, where: dict[str, Any]) -> PoolWriter:
        def existing() -> Sequence[ResourceSlice]:
            return [s for s in self.slices.all() if s.spec.pool.name == pool]

        return SlicePublisher(
            self._kube,
            driver=names.DRIVER,
            pool=pool,
            manager=names.MANAGER_CONTROLLER,
            where={"nodeSelector": where},
            owner=None,
            existing=existing,
        )

    def _connected(self, ok: bool, why: str) -> None:
        self._process.ready.set("fabric", ok, why)
        if ok:
            self._settled.set()

    def _hosts_changed(self) -> None:
        self.labels.changed()

    def _fabric_changed(self) -> None:
        self.publisher.changed()

    def _freed(self, share: Share) -> None:
        self.publisher.changed()
        self.toucher.event("bytes-back", [share.pool])

    def _claim_changed(self, change: Change[ClaimView]) -> None:
        claim, now = change.object, clock.monotonic()
        key = claims.key_of(claim)
        old = claims.shares_of(change.old) if change.old is not None else ()
        if change.type == "deleted":
            new: tuple[claims.FabricShare, ...] = ()
            self.watcher.claim_gone(key)
        else:
            new = claims.shares_of(claim)
            self.watcher.claim_changed(claim)
        if self.books.put_claim(key, claim.metadata.uid, [share.tag for share in new], now):
            self.publisher.changed()
        tags = {share.tag for share in new}
        freed = {share.pool for share in old if share.tag not in tags}
        if freed:
            self.toucher.event("deallocated", freed)

    def _pod_changed(self, change: Change[PodView]) -> None:
        if change.type == "deleted":
            self.toucher.pod_gone(change.object)
        else:
            self.toucher.pod_changed(change.object)

    def _node_changed(self, change: Change[Node]) -> None:
        if change.old is None or change.old.metadata.labels != change.object.metadata.labels:
            self.labels.changed()

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        if change.type == "deleted" or change.old is None or change.old.spec != change.object.spec:
            self.publisher.changed()


def _is_pool_slice(slice_: ResourceSlice) -> bool:
    return names.fabric_domain_of(slice_.spec.pool.name) is not None
