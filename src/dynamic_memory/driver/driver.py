# SPDX-License-Identifier: Apache-2.0
"""The driver of one node, put together: what runs side by side, what wakes what, and in which order it starts and ends.

Everything it talks to is given to it, so that tests run the same driver against fakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from dynamic_memory.api.names import windows_pool
from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import reboot, sockets
from dynamic_memory.driver.cache import Claims
from dynamic_memory.driver.cdi import Specs
from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.driver.enforcement import Enforcement
from dynamic_memory.driver.health import Condition
from dynamic_memory.driver.leftovers import Leftovers
from dynamic_memory.driver.local_slices import LocalSlices
from dynamic_memory.driver.lock import LedgerLock, NodeLock
from dynamic_memory.driver.metadata import MetadataFiles
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.nri_link import NriLink
from dynamic_memory.driver.orphans import Orphans
from dynamic_memory.driver.owners import Owners
from dynamic_memory.driver.plugin import Plugin
from dynamic_memory.driver.prepare import Preparer
from dynamic_memory.driver.reconciler import Reconciler
from dynamic_memory.driver.records import Records
from dynamic_memory.driver.registration import Registration
from dynamic_memory.driver.reports import Reporter
from dynamic_memory.driver.unprepare import Unpreparer
from dynamic_memory.driver.view import FabricView
from dynamic_memory.driver.windows import Windows
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.host.errors import HostError
from dynamic_memory.host.interface import Host
from dynamic_memory.host.topology import TopologyReader
from dynamic_memory.kube.events import EventRecorder
from dynamic_memory.kube.informer import Change, report
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.queue import WorkQueue
from dynamic_memory.process import clock
from dynamic_memory.process.readiness import Readiness

__all__ = ["Driver"]

log = logging.getLogger(__name__)

SETTLES = 2.0
"""Seconds that slices wait for the first word of a runtime, which comes at once unless the runtime hangs."""


class Driver:
    """One driver process.

    Args:
        config: see `DriverConfig`.
        kube: the API server.
        fabric: the Dynamic Memory Service.
        host: the Linux of this node.
        ready: where to report what works.

    """

    def __init__(
        self, config: DriverConfig, *, kube: Kube, fabric: Fabric, host: Host, ready: Readiness | None = None
    ) -> None:
        self._config = config
        self._ready = Readiness() if ready is None else ready
        self._sockets = sockets.sockets(
            plugin_folder=config.plugin_folder, registry_folder=config.registry_folder, pod_uid=config.instance
        )
        name, state = config.node, Path(config.state_dir)
        claims, view = Claims(kube, name), FabricView(fabric, name)
        self._lock = NodeLock(state / "node.lock")
        self.node = Node(
            name=name,
            timing=config.timing,
            boot_id="",
            claims=claims,
            records=Records(state / "claims"),
            view=view,
            fabric=fabric,
            host=host,
            windows=Windows(kube, name, view, claims, hold=config.timing.hold, hold_most=config.timing.hold_most),
            reporter=Reporter(kube, claims, EventRecorder(kube, "dynamic-memory-driver", name)),
            specs=Specs(Path(config.cdi_dir)),
            queue=WorkQueue(),
            ledger=LedgerLock(state / "locks" / "ledger"),
            holder=self._lock.holder,
        )
        if config.local is not None:
            self.node.local = LocalSlices(
                kube,
                name,
                TopologyReader(config.local_root),
                claims=claims,
                records=self.node.records,
                slices=self.node.windows.slices,
                config=config.local,
                simulated=host.simulated and (config.local.root is None or config.one_machine),
            )
            if config.local.metadata:
                self.node.metadata = MetadataFiles(config.plugin_folder / "metadata")
        self._nri: NriLink | None = None
        if config.nri is not None:
            own = config.local is not None and config.local.root is not None
            root = Path("/") if host.simulated and not own else config.local_root
            self._nri = NriLink(
                config.nri, self.node.records, host, root=root, ready=self._ready, own=own, whole=config.one_machine
            )
        real = not host.simulated or (config.local is not None and config.local.root is not None)
        self._enforcement = Enforcement(config, self._nri, self._ready, real=real)
        self.node.unenforced = self._enforcement.why_not
        if self.node.local is not None:
            self.node.local.held = self._enforcement.holds
            self._enforcement.changed = self.node.local.changed
        self._runtime_changed = asyncio.Event()
        if self._nri is not None:
            self._nri.changed = self._runtime_changed.set
            self._nri.tell, self._nri.told = self._lock.tell, self._lock.told
        preparer = Preparer(self.node)
        self._owners = Owners(self.node, preparer, self._pod_lives)
        self._reconciler = Reconciler(self.node)
        self._orphans = Orphans(self.node)
        self.node.look_for_orphans = self._orphans.look
        self._leftovers = Leftovers(self.node, config)
        self._plugin = Plugin(preparer, Unpreparer(self.node), config.timing, self._conditions, locks=self.node.calls)
        self._registration = Registration(self._sockets.plugin, self._told_by_kubelet)
        self._may_register = asyncio.Event()
        self._unread = ""
        claims.informer.subscribe(self._claim_changed)
        view.subscribe(share=self._share_changed, state=self._session_changed)

    async def run(self) -> None:
        """Run until cancelled; the sockets are gone afterwards.

        Raises:
            InvalidInput: a path cannot be a socket's.
            Served: another driver has this one's sockets.
            HostError: the host does not tell its boot.

        """
        for check in ("kubelet", "fabric", "slices", "node lock", *(("nri",) if self._nri is not None else ())):
            self._ready.set(check, False, "starting")
        await asyncio.to_thread(self._enforcement.look)
        self._enforcement.tell()
        self.node.boot_id = await self.node.host.boot_id()
        await self.node.records.load()
        if self.node.local is not None:
            # what is not known could not be prepared, and the kubelet may ask at once
            try:
                await self.node.local.read()
            except HostError as error:
                # the fabric is served all the same; the memory is read again and again
                self._unread = f"the node's own memory is not published: {error}"
        try:
            await self._plugin.start(self._sockets.plugin)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.node.claims.informer.run())
                group.create_task(self.node.windows.slices.run())
                group.create_task(self.node.view.run())
                group.create_task(self.node.reporter.run())
                group.create_task(self._report_slices())
                group.create_task(
                    report(
                        (self.node.claims.informer, self.node.windows.slices),
                        lambda ok, why: self._ready.set("api server", ok, why),
                    )
                )
                group.create_task(self._follow_runtime())
                group.create_task(self._lead())
                group.create_task(self._register())
        finally:
            # the kubelet stops calling first, then calls in hand may end
            await self._registration.stop()
            await self._plugin.stop()

    def _conditions(self) -> list[Condition]:
        """How the node's devices are: its own memory, and its windows."""
        found = []
        local = self.node.local
        if local is not None:
            troubles = local.troubles()
            names = sorted({*local.devices, *troubles})
            found = [Condition(pool=local.pool, device=name, trouble=troubles.get(name, "")) for name in names]
        return found + [
            Condition(pool=windows_pool(self.node.name), device=name, trouble=why)
            for name, why in self.node.windows.troubles().items()
        ]

    def _pod_lives(self, uid: str) -> bool:
        """Tell whether a pod is on the node; without a runtime that tells, the API alone decides."""
        if self._nri is None or self._nri.never:
            return False
        # while the runtime is away nobody knows, and nothing is handed on
        return bool(self._nri.why_not()) or self._nri.plugin.pods.get(uid) is not None

    async def _follow_runtime(self) -> None:
        """Look at the node again when a runtime has connected: it may have been set up meanwhile."""
        while True:
            await self._runtime_changed.wait()
            self._runtime_changed.clear()
            if self._nri is not None and not self._nri.why_not():
                await asyncio.to_thread(self._enforcement.look)
            self._enforcement.tell()

    async def _publish_local(self, local: LocalSlices) -> None:
        """Publish the node's own memory once it is known whether containers are held to claims of it, or soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLES):
                await self._enforcement.settled()
        await local.run()

    async def _register(self) -> None:
        await self._may_register.wait()
        await self._registration.start(self._sockets.registration)

    async def _lead(self) -> None:
        """Attach, detach and publish while this process holds the node's lock (rule 13)."""
        await self.node.claims.informer.wait_synced()
        async with self._lock.hold(self._config.identity, self._must_wait):
            if self._nri is not None:
                # calls of the kubelet may be in hand: nothing is given before this process is connected
                self._nri.taken_over()
            await self.node.records.load()
            await self._leftovers.sweep_sockets()
            await self._leftovers.sweep_records()
            before = reboot.attached_before(self.node)
            reboot.withdraw_specs(self.node, before)
            await self._leftovers.forget_stale()
            await self._leftovers.prune_specs()
            self.node.active = True
            await self._leftovers.restore_specs()
            self._ready.set("node lock", True)
            log.info("this process attaches and detaches", extra={"records": len(self.node.records.all())})
            try:
                async with asyncio.TaskGroup() as group:
                    # of two that publish, one would take back what the other says of a failure
                    if self._config.fabric is not None:
                        group.create_task(self.node.windows.run())
                    if self.node.local is not None:
                        group.create_task(self._publish_local(self.node.local))
                    if self._nri is not None:
                        # two plugins would set the same field of a container, which is then refused
                        group.create_task(self._nri.run())
                    group.create_task(self._reconciler.run(self._config.workers))
                    group.create_task(self._orphans.run())
                    group.create_task(self._owners.run())
                    group.create_task(self._after_reboot(before))
                    await self._resync()
            finally:
                self.node.active = False

    def _must_wait(self) -> None:
        """Another driver is at work: it has done what a reboot asks for, this one may serve what is ready."""
        self._ready.set("node lock", True)
        self._ready.set("slices", True)
        if self._nri is not None:
            self._nri.left_to_another()
        self._may_register.set()

    async def _after_reboot(self, keys: list[str]) -> None:
        if keys:
            log.warning("the node has restarted: attaching again", extra={"claims": len(keys)})
            await reboot.reattach(self.node, keys)
        self._may_register.set()

    async def _resync(self) -> None:
        """Look at everything, at first and every now and then: a watch may have missed something.

        Records too: another driver of the node may have prepared a claim.
        """
        while True:
            try:
                await self.node.records.load()
            except OSError as error:
                log.warning("records not read again", extra={"error": str(error)})
            for record in self.node.records.all():
                self.node.queue.add(record.key)
            for claim in self.node.claims.all():
                self.node.queue.add(claim.metadata.uid)
                self._owners.changed(claim)
            self._orphans.look()
            await self._leftovers.restore_specs()
            self.node.windows.changed()
            await clock.sleep(self._config.timing.resync)

    async def _report_slices(self) -> None:
        if self._config.fabric is not None:
            await self.node.windows.published.wait()
        if self.node.local is not None:
            if self._unread:
                self._ready.set("slices", True, degraded=self._unread)
            await self.node.local.published.wait()
        self._ready.set("slices", True)

    # --- what wakes what

    def _claim_changed(self, change: Change[ResourceClaim]) -> None:
        self.node.windows.changed()
        if self.node.active:
            self.node.queue.add(change.object.metadata.uid)
            self._owners.changed(change.object)

    def _share_changed(self, tag: str) -> None:
        if not self.node.active:
            return
        key = self.node.records.key_of(tag)
        claim = None if key else self.node.claims.by_tag(tag)
        if key is None and claim is None:
            self._orphans.look()
        else:
            self.node.queue.add(key or (claim.metadata.uid if claim else ""))

    def _session_changed(self, synced: bool, why: str) -> None:
        self._ready.set("fabric", synced, why)
        if synced:
            self._reconciler.wake()
            self._orphans.look()

    def _told_by_kubelet(self, registered: bool, error: str) -> None:
        self._ready.set("kubelet", registered, error)
