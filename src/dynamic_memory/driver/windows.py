# SPDX-License-Identifier: Apache-2.0
"""The node's own slices: the window devices, always with the truth.

What is published follows from the fabric's capacity, the shares that no claim owns, and the taints. It is computed anew
whenever one of them changes, and when somebody deletes a slice: the kubelet does so at its start, and 30 s after it has
lost its last connection to the driver.

A failed attach taints its window before it is reported, so that the scheduler does not come back within milliseconds.
The taint goes when a probe finds window and pool well, at the earliest after a time that grows with each failure.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import Gauge

from dynamic_memory.api.kinds import NODES, RESOURCE_SLICES
from dynamic_memory.api.names import DRIVER, MANAGER_DRIVER, windows_pool
from dynamic_memory.api.resource import ResourceSlice
from dynamic_memory.driver.cache import Claims
from dynamic_memory.driver.devices import ATTACH_FAILED_TAINT, UNHEALTHY_TAINT, Taint, unowned, window_devices
from dynamic_memory.driver.view import FabricView
from dynamic_memory.errors import DynamicMemoryError, RetryError
from dynamic_memory.fabric.model import Capacity, HostWindow
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.slices import SlicePublisher
from dynamic_memory.process import clock

__all__ = ["NotPublished", "Windows"]

log = logging.getLogger(__name__)

DEBOUNCE = 0.05
RETRY = 1.0
UNOWNED = Gauge("dynamic_memory_driver_unowned_bytes", "Bytes of this node that no allocated claim owns.", ["window"])
TAINTED = Gauge("dynamic_memory_driver_window_tainted", "Whether a window is offered to nobody (1).", ["window"])


class NotPublished(RetryError):
    """The node's slices cannot be written now.

    Args:
        why: what is missing.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return f"the node's slices cannot be published: {self.why}"


class Publisher(Protocol):
    """What writes slices."""

    async def publish(self, devices: Sequence[Any]) -> Any:
        """Write what differs and read it back."""


@dataclass
class _Hold:
    """A window that is not offered: since when (RFC 3339), until when at least (monotonic), and for how long next."""

    since: str
    until: float
    delay: float


class Windows:
    """Publishes the windows of one node.

    Args:
        kube: the API server.
        node: name of the node.
        view: the fabric.
        cache: the claims of the node.
        hold: seconds that a failed window is not offered, at first.
        hold_most: and at most.

    """

    def __init__(
        self, kube: Kube, node: str, view: FabricView, cache: Claims, *, hold: float = 10.0, hold_most: float = 300.0
    ) -> None:
        self._kube = kube
        self._node = node
        self._view = view
        self._cache = cache
        self._hold = hold
        self._hold_most = hold_most
        self._holds: dict[str, _Hold] = {}
        self._delays: dict[str, float] = {}
        self._sick: dict[str, str] = {}
        self._dirty = asyncio.Event()
        self._lock = asyncio.Lock()
        self._publisher: SlicePublisher | None = None
        self._last: list[dict[str, Any]] | None = None
        self._adopted = False
        self.published = asyncio.Event()
        self.slices: Informer[ResourceSlice] = Informer(
            kube, RESOURCE_SLICES, fields=f"spec.nodeName={node},spec.driver={DRIVER}"
        )
        self.slices.subscribe(self._slice_changed)
        view.subscribe(share=lambda _tag: self.changed(), capacity=self.changed)

    def changed(self) -> None:
        """Say that something changed on which the slices depend."""
        self._dirty.set()

    async def run(self) -> None:
        """Publish for ever, whenever something changed."""
        await self.slices.wait_synced()
        self._dirty.set()
        while True:
            try:
                async with asyncio.timeout(self._next_probe()):
                    await self._dirty.wait()
            except TimeoutError:
                await self._probe()
            self._dirty.clear()
            # one change rarely comes alone
            await clock.sleep(DEBOUNCE)
            try:
                await self.publish()
            except NotPublished as error:
                log.info("slices wait", extra={"error": str(error)})  # to know the capacity is a change as well
            except DynamicMemoryError as error:
                log.warning("slices not published", extra={"error": str(error)})
                await clock.sleep(RETRY)
                self._dirty.set()

    async def hold(self, window: str) -> None:
        """Taint a window and return when the API server shows it.

        Raises:
            NotPublished: there is no capacity to publish yet.
            ApiError: the API server does not answer, or refuses.

        """
        delay = self._delays.get(window, self._hold)
        self._delays[window] = min(delay * 2, self._hold_most)
        if window not in self._holds:
            self._holds[window] = _Hold(clock.rfc3339(clock.now()), 0.0, delay)
        self._holds[window].until = clock.monotonic() + delay
        try:
            await self._view.refresh()
        except DynamicMemoryError as error:
            # the taint alone is true enough
            log.warning("capacity not read before publishing a failure", extra={"error": str(error)})
        await self.publish()

    def succeeded(self, window: str) -> None:
        """Say that an attach through this window has worked: the next failure is a first one again."""
        self._delays.pop(window, None)

    async def publish(self) -> None:
        """Write the slices if they differ from what they should be.

        Raises:
            NotPublished: there is no capacity to publish yet.
            ApiError: the API server does not answer, or refuses.

        """
        async with self._lock:
            capacity = self._view.capacity
            if capacity is None or not self.slices.synced:
                raise NotPublished("the fabric's capacity is not known yet" if capacity is None else "not synced yet")
            self._adopt()
            devices = self._devices(capacity)
            if devices == self._last and self._is_there():
                return
            publisher = await self._get_publisher()
            self._last = devices  # before it is written: a slice that is deleted meanwhile takes it back
            try:
                await publisher.publish(devices)
            except BaseException:
                self._last = None  # some of it may be written
                raise
            self.published.set()

    def _devices(self, capacity: Capacity) -> list[dict[str, Any]]:
        windows = [w for w in capacity.hosts if w.node == self._node]
        shares = self._view.all()
        owned = {share.tag: device for share in shares if (device := self._cache.window_of(share.tag))}
        held = unowned(shares, owned, windows)
        taints = {window.device: self._taints(window) for window in windows}
        for window in windows:
            UNOWNED.labels(window.device).set(held[window.device].size)
            TAINTED.labels(window.device).set(bool(taints[window.device]))
        return window_devices(capacity, self._node, held, taints)

    def _taints(self, window: HostWindow) -> list[Taint]:
        taints = []
        if window.healthy:
            self._sick.pop(window.device, None)
        else:
            since = self._sick.setdefault(window.device, clock.rfc3339(clock.now()))
            taints.append(Taint(UNHEALTHY_TAINT, since))
        if window.device in self._holds:
            taints.append(Taint(ATTACH_FAILED_TAINT, self._holds[window.device].since))
        return taints

    def troubles(self) -> dict[str, str]:
        """Return why each window is not well, by device; empty for one that is."""
        capacity = self._view.capacity
        windows = [w for w in capacity.hosts if w.node == self._node] if capacity is not None else []
        return {window.device: "" if window.healthy else window.why or "the path is down" for window in windows}

    def _adopt(self) -> None:
        """Keep the taints that an earlier process left, until a probe finds the window well."""
        if self._adopted:
            return
        self._adopted = True
        for item in self._own():
            for device in item.spec.devices:
                for taint in device.taints:
                    if taint.key == ATTACH_FAILED_TAINT and device.name not in self._holds:
                        since = taint.time_added or clock.rfc3339(clock.now())
                        self._holds[device.name] = _Hold(since, clock.monotonic() + self._hold, self._hold)
                    elif taint.key == UNHEALTHY_TAINT and taint.time_added:
                        self._sick.setdefault(device.name, taint.time_added)

    def _next_probe(self) -> float | None:
        if not self._holds:
            return None
        return max(min(hold.until for hold in self._holds.values()) - clock.monotonic(), 0.0)

    async def _probe(self) -> None:
        """Lift the taint of windows whose time is over and whose fabric says that they are well."""
        now = clock.monotonic()
        due = [window for window, hold in self._holds.items() if hold.until <= now]
        try:
            capacity = await self._view.refresh()
        except DynamicMemoryError as error:
            log.warning("probe failed", extra={"error": str(error)})
            capacity = None
        for window in due:
            if capacity is not None and self._is_well(window, capacity):
                del self._holds[window]
                log.info("window offered again", extra={"window": window})
            else:
                self._holds[window].until = now + self._holds[window].delay

    def _is_well(self, name: str, capacity: Capacity) -> bool:
        window = next((w for w in capacity.hosts if w.node == self._node and w.device == name), None)
        if window is None:
            return True  # nothing is published under this name any more
        pools = [pool for pool in capacity.pools if pool.domain == window.domain]
        return window.healthy and any(pool.healthy for pool in pools)

    def _own(self) -> list[ResourceSlice]:
        pool = windows_pool(self._node)
        return [item for item in self.slices.all() if item.spec.driver == DRIVER and item.spec.pool.name == pool]

    def _is_there(self) -> bool:
        own = self._own()
        return bool(own) and len(own) >= own[0].spec.pool.resource_slice_count

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        if change.type == "deleted":
            self._last = None
            self._dirty.set()

    async def _get_publisher(self) -> Publisher:
        """Return the publisher; the slices belong to the Node object, and go with it."""
        if self._publisher is None or not self._own():
            node = await self._kube.get(NODES, self._node)
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node.metadata.uid}
            self._publisher = SlicePublisher(
                self._kube,
                driver=DRIVER,
                pool=windows_pool(self._node),
                manager=MANAGER_DRIVER,
                where={"nodeName": self._node},
                owner=owner,
                existing=self._own,
            )
        return self._publisher
