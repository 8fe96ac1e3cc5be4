# SPDX-License-Identifier: Apache-2.0
"""The node's own memory, read again and again, and published as the pool `<node>/mem`.

The kernel does not tell when somebody reserves huge pages, so the few files are read every few seconds; only what
differs is written, and a change of amounts is one write (all devices of a usual machine are in one slice). What claims
hold is never taken out of a slice: it stays, with a taint, until they are gone.

Whether the cluster keeps the mapping of KEP-5517 is found out by a slice that is written as a dry run and read back:
1.36 and 1.37 have different fields for it, and an API server drops what is behind a gate that is off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import Gauge

from dynamic_memory.api.kinds import NODES
from dynamic_memory.api.names import CAPACITY_SIZE, DRIVER, MANAGER_DRIVER, memory_pool
from dynamic_memory.api.resource import ResourceClaim, ResourceSlice
from dynamic_memory.driver.cache import Claims
from dynamic_memory.driver.config import LocalConfig
from dynamic_memory.driver.grants import totals
from dynamic_memory.driver.local_claims import local_results
from dynamic_memory.driver.local_devices import (
    OVERCOMMITTED_TAINT,
    LocalDevice,
    MappingForm,
    attributes_of,
    device_bodies,
    local_devices,
)
from dynamic_memory.driver.records import Records
from dynamic_memory.errors import DynamicMemoryError, InvalidInput
from dynamic_memory.host.errors import HostError
from dynamic_memory.host.topology import Topology, TopologyReader
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.probe import node_allocatable_form
from dynamic_memory.kube.slices import SlicePublisher
from dynamic_memory.process import clock
from dynamic_memory.quantity import parse_bytes

__all__ = ["LocalSlices"]

log = logging.getLogger(__name__)

RETRY = 1.0
CAPACITY = Gauge("dynamic_memory_driver_local_bytes", "Bytes of the node's own memory for claims.", ["device"])
ALLOCATED = Gauge("dynamic_memory_driver_local_allocated_bytes", "Bytes of it that claims hold.", ["device"])


class LocalSlices:
    """Reads and publishes the node's own memory.

    Args:
        kube: the API server.
        node: name of the node.
        reader: of the machine.
        claims: of the node.
        records: of the driver: its ledger.
        slices: an informer of the node's slices of this driver, run by others.
        config: see `LocalConfig`.
        simulated: the machine is made of files.

    """

    def __init__(
        self,
        kube: Kube,
        node: str,
        reader: TopologyReader,
        *,
        claims: Claims,
        records: Records,
        slices: Informer[ResourceSlice],
        config: LocalConfig,
        simulated: bool = False,
    ) -> None:
        self._kube = kube
        self._node = node
        self._reader = reader
        self._records = records
        self._slices = slices
        self._config = config
        self._simulated = simulated
        self._topology: Topology | None = None
        self._since: dict[str, str] = {}
        self._allocated: dict[str, dict[str, int]] = {}
        self._totals: dict[str, int] = {}
        self._form: MappingForm | None = None
        self._probed = False
        self._last: list[dict[str, Any]] | None = None
        self._publisher: SlicePublisher | None = None
        self._dirty = asyncio.Event()
        self.devices: dict[str, LocalDevice] = {}
        self.held: Callable[[LocalDevice], bool] | None = None
        """Tells whether containers are held to claims of a device; None if nobody knows."""
        self.published = asyncio.Event()
        slices.subscribe(self._slice_changed)
        claims.informer.subscribe(self._claim_changed)

    @property
    def config(self) -> LocalConfig:
        """How the node's own memory is to be treated."""
        return self._config

    @property
    def pool(self) -> str:
        """Name of the pool."""
        return memory_pool(self._node)

    async def read(self) -> None:
        """Read the machine.

        Raises:
            HostError: it cannot be read.

        """
        self._topology = await asyncio.to_thread(self._reader.read)
        reserved = {int(node): int(size) for node, size in self._config.reserved.items()}
        self.devices = local_devices(self._topology, reserved)

    async def run(self) -> None:
        """Read and publish for ever."""
        while True:
            self._dirty.clear()  # what changes from here on asks for another one
            try:
                await self.publish()
            except DynamicMemoryError as error:
                log.warning("the node's own memory is not published", extra={"error": str(error)})
                unread = self._topology is None  # then it is read first of all
                await clock.sleep(float(self._config.rescan) if unread else RETRY)
                if not unread:
                    await self._read_again()
                continue
            try:
                async with asyncio.timeout(float(self._config.rescan)):
                    await self._dirty.wait()
            except TimeoutError:
                await self._read_again()
            else:
                await clock.sleep(0.05)  # one change rarely comes alone

    async def _read_again(self) -> None:
        try:
            await self.read()
        except HostError as error:
            # what was read before stands: nothing is taken away because of a file that could not be read
            log.warning("the node's memory cannot be read", extra={"error": str(error)})

    async def publish(self) -> None:
        """Write the slices if they differ from what they should be.

        Raises:
            DynamicMemoryError: the machine or the API server does not answer, or refuses.

        """
        if self._topology is None:
            await self.read()
        await self._slices.wait_synced()
        await self._probe()
        bodies = self.bodies()
        if bodies == self._last and self._is_there():
            return
        publisher = await self._get_publisher()
        self._last = bodies  # before it is written: a slice that is deleted meanwhile takes it back
        try:
            await publisher.publish(bodies)
        except BaseException:
            self._last = None
            raise
        self.published.set()

    def bodies(self) -> list[dict[str, Any]]:
        """Return the devices as they should be published now."""
        taken = self.taken()
        over = {name for name, size in taken.items() if size > (self.devices[name].size if name in self.devices else 0)}
        self._adopt(over)
        self._since = {name: since for name, since in self._since.items() if name in over}
        for name in sorted(over - self._since.keys()):
            self._since[name] = clock.rfc3339(clock.now())
            log.warning("less memory than claims hold", extra={"device": name, "held": taken[name]})
        for name, device in self.devices.items():
            CAPACITY.labels(name).set(device.size)
            ALLOCATED.labels(name).set(taken.get(name, 0))
        return device_bodies(
            self.devices.values(),
            taken,
            base_page=self._topology.base_page if self._topology else 0,
            since=self._since,
            mapping=self._form,
            simulated=self._simulated,
            held=self.held,
        )

    def changed(self) -> None:
        """Take note that the devices may have to be published anew."""
        self._dirty.set()

    def taken(self) -> dict[str, int]:
        """Return the bytes that claims hold, by device: allocated ones, and what is prepared and not given back."""
        held = {device: size for device, size in self._totals.items() if size}
        for record in self._records.all():
            if record.local and record.uid not in self._allocated:
                for (_, device), size in totals(record.local).items():
                    held[device] = held.get(device, 0) + size
        return held

    def _claim_changed(self, change: Change[ResourceClaim]) -> None:
        """Keep the sums as claims come and go: they are asked for at each change, with any number of claims."""
        uid = change.object.metadata.uid
        results = local_results(change.object, self._node) if change.type != "deleted" else []
        now: dict[str, int] = {}
        for result in results:
            now[result.device] = now.get(result.device, 0) + _size(result.consumed_capacity)
        before = self._allocated.pop(uid, {})
        if now:
            self._allocated[uid] = now
        for sign, each in ((-1, before), (1, now)):
            for device, size in each.items():
                self._totals[device] = self._totals.get(device, 0) + sign * size
        if now != before:
            self._dirty.set()

    def attributes(self) -> dict[str, Mapping[str, Any]]:
        """Return the attributes of the devices by name, as they are published."""
        return {
            name: attributes_of(device, simulated=self._simulated, held=self.held)
            for name, device in self.devices.items()
        }

    def troubles(self) -> dict[str, str]:
        """Return a sentence for each device that is not well."""
        found = {}
        for name, size in self.taken().items():
            have = self.devices[name].size if name in self.devices else 0
            if size > have:
                found[name] = f"claims hold {size} bytes of {name}, which has {have}"
        return found

    async def _probe(self) -> None:
        if self._probed or self._config.node_allocatable == "off":
            return
        self._form = await node_allocatable_form(self._kube, self._node)
        self._probed = True
        if self._form is not None:
            log.info("devices are mapped to the node's resources (KEP-5517)", extra={"form": self._form})

    def _adopt(self, over: Iterable[str]) -> None:
        """Keep the times of taints that an earlier process set."""
        for item in self._own():
            for device in item.spec.devices:
                for taint in device.taints:
                    if taint.key == OVERCOMMITTED_TAINT and device.name in over and taint.time_added:
                        self._since.setdefault(device.name, taint.time_added)

    def _own(self) -> list[ResourceSlice]:
        return [item for item in self._slices.all() if item.spec.driver == DRIVER and item.spec.pool.name == self.pool]

    def _is_there(self) -> bool:
        own = self._own()
        return bool(own) and len(own) >= own[0].spec.pool.resource_slice_count

    def _slice_changed(self, change: Change[ResourceSlice]) -> None:
        if change.type == "deleted":
            self._last = None
            self._dirty.set()

    async def _get_publisher(self) -> SlicePublisher:
        """Return the publisher; the slices belong to the Node object, and go with it."""
        if self._publisher is None or not self._own():
            node = await self._kube.get(NODES, self._node)
            owner = {"apiVersion": "v1", "kind": "Node", "name": self._node, "uid": node.metadata.uid}
            self._publisher = SlicePublisher(
                self._kube,
                driver=DRIVER,
                pool=self.pool,
                manager=MANAGER_DRIVER,
                where={"nodeName": self._node},
                owner=owner,
                existing=self._own,
            )
        return self._publisher


def _size(consumed: Mapping[str, str | int]) -> int:
    try:
        return parse_bytes(consumed.get(CAPACITY_SIZE, "0"))
    except InvalidInput:
        return 0
