# SPDX-License-Identifier: Apache-2.0
"""Publishing a pool of devices as ResourceSlices, so that the scheduler always sees one consistent pool.

A pool is a set of slices with one generation and the right count; the scheduler uses nothing of a pool that is
incomplete or mixed. A change of one slice alone is atomic and keeps the generation. Any other change raises it:
obsolete slices are deleted first, then the rest is written anew (the pool protocol of resource.k8s.io; the Go helper
library does the same).

What the server stored is compared with what was sent: an API server drops the fields of a feature gate that is off, in
silence.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from dynamic_memory.api.kinds import RESOURCE_SLICES
from dynamic_memory.api.names import TOUCHED_ANNOTATION
from dynamic_memory.api.resource import Device, ResourceSlice
from dynamic_memory.errors import NeverError
from dynamic_memory.kube.errors import NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock
from dynamic_memory.quantity import Quantity

__all__ = ["DEVICES_PER_SLICE", "DroppedFields", "PublishResult", "SlicePublisher"]

DEVICES_PER_SLICE = 64
"""The limit of a slice in which any device has taints; 128 otherwise, but a taint may come at any time."""

NAME_LENGTH = 200
_QUANTITY_KEYS = frozenset({"value", "default", "min", "max", "step", "validValues"})


class DroppedFields(NeverError):
    """The API server did not store what was sent: a feature gate is off.

    Args:
        slice_name: name of the slice.
        fields: paths of the fields that are missing or different.

    """

    def __init__(self, slice_name: str, fields: Sequence[str]) -> None:
        self.slice_name = slice_name
        self.fields = tuple(fields)
        super().__init__(slice_name, fields)

    def __str__(self) -> str:
        return (
            f"the API server dropped {', '.join(self.fields)} of ResourceSlice {self.slice_name}: "
            "is a feature gate of Dynamic Resource Allocation off?"
        )


class PublishResult(msgspec.Struct, frozen=True):
    """What publishing did: slices written and deleted, and the pool's generation."""

    written: int
    deleted: int
    generation: int


class SlicePublisher:
    """Publishes one pool of one driver.

    Args:
        kube: the API server.
        driver: name of the driver.
        pool: name of the pool.
        manager: field manager.
        where: `{"nodeName": …}` or `{"nodeSelector": …}`.
        owner: owner reference of each slice, or None.
        existing: slices from a cache; those of other pools are passed over.

    """

    def __init__(
        self,
        kube: Kube,
        *,
        driver: str,
        pool: str,
        manager: str,
        where: Mapping[str, Any],
        owner: Mapping[str, Any] | None,
        existing: Callable[[], Iterable[ResourceSlice]],
    ) -> None:
        self._kube = kube
        self._driver = driver
        self._pool = pool
        self._manager = manager
        self._where = dict(where)
        self._owner = owner
        self._existing = existing
        self._written: dict[str, ResourceSlice] = {}

    async def publish(self, devices: Sequence[Mapping[str, Any]]) -> PublishResult:
        """Make the pool consist of `devices`, writing only what differs.

        Raises:
            DroppedFields: the server stored something else.
            ApiError: the server refused or does not answer; some slices may be written, and publishing again mends it.

        """
        wanted = self._chunks(devices)
        present = self._cached()
        if not self._differs(wanted, present):
            return PublishResult(0, 0, _generation(present))
        present = await self._live(wanted.keys() | present.keys())
        changed = [name for name in wanted if name not in present or not self._same(wanted[name], present[name])]
        obsolete = sorted(present.keys() - wanted.keys())
        generation = _generation(present)
        sound = all(
            item.spec.pool.generation == generation and item.spec.pool.resource_slice_count == len(wanted)
            for item in present.values()
        )
        if not changed and not obsolete and sound:
            return PublishResult(0, 0, generation)
        alone = len(changed) == 1 and changed[0] in present and not obsolete and sound
        if not alone:
            generation += 1
            changed = list(wanted)
        for name in obsolete:
            await self._delete(name)
        for name in changed:
            await self._apply(name, wanted[name], generation, len(wanted))
        return PublishResult(len(changed), len(obsolete), generation)

    async def touch(self) -> None:
        """Change an annotation of a slice: any update of a slice wakes pods that the scheduler has put aside.

        Raises:
            ApiError: the server refused or does not answer.

        """
        for name in sorted(self._cached()):
            stamp = clock.rfc3339_micro(clock.now())
            body = {"metadata": {"annotations": {TOUCHED_ANNOTATION: stamp}}}
            try:
                touched = await self._kube.patch(RESOURCE_SLICES, name, body, manager=self._manager)
            except NotFound:
                continue
            self._written[name] = touched
            return

    async def withdraw(self) -> None:
        """Delete all slices of the pool."""
        for name in sorted(self._cached()):
            await self._delete(name)

    def _chunks(self, devices: Sequence[Mapping[str, Any]]) -> dict[str, list[dict[str, Any]]]:
        """Return the devices of each slice, by its name; a pool without devices is one empty slice."""
        parts = [devices[start : start + DEVICES_PER_SLICE] for start in range(0, len(devices), DEVICES_PER_SLICE)]
        readable = self._pool.replace("/", "-")[:NAME_LENGTH]
        digest = hashlib.sha256(f"{self._driver}/{self._pool}".encode()).hexdigest()[:6]
        return {
            f"{readable}-{digest}-{number}": [dict(device) for device in part]
            for number, part in enumerate(parts or [[]])
        }

    def _cached(self) -> dict[str, ResourceSlice]:
        """Return the pool's slices by what the cache and our own writes know, the newer of the two."""
        found = {
            item.metadata.name: item
            for item in self._existing()
            if item.spec.driver == self._driver and item.spec.pool.name == self._pool
        }
        for name, mine in self._written.items():
            cached = found.get(name)
            if cached is None or _version(cached) < _version(mine):
                found[name] = mine
        return found

    def _differs(self, wanted: Mapping[str, list[dict[str, Any]]], present: Mapping[str, ResourceSlice]) -> bool:
        cached = {item.metadata.name for item in self._existing()}
        if any(name not in cached for name in present):
            return True  # ours, but not in the cache: not arrived there yet, or deleted by somebody
        return wanted.keys() != present.keys() or any(
            not self._same(wanted[name], item)
            or item.spec.pool.generation != _generation(present)
            or item.spec.pool.resource_slice_count != len(wanted)
            for name, item in present.items()
        )

    async def _live(self, names: Iterable[str]) -> dict[str, ResourceSlice]:
        found = {}
        for name in sorted(names):
            try:
                found[name] = await self._kube.get(RESOURCE_SLICES, name)
            except NotFound:
                self._written.pop(name, None)
        return found

    def _same(self, devices: Sequence[Mapping[str, Any]], item: ResourceSlice) -> bool:
        where = {
            key: value
            for key, value in (
                ("nodeName", item.spec.node_name),
                ("nodeSelector", msgspec.to_builtins(item.spec.node_selector) if item.spec.node_selector else None),
            )
            if value is not None
        }
        return where == self._where and not _missing(_plain(devices), _plain(msgspec.to_builtins(item.spec.devices)))

    async def _apply(self, name: str, devices: list[dict[str, Any]], generation: int, count: int) -> None:
        metadata: dict[str, Any] = {"name": name}
        if self._owner is not None:
            metadata["ownerReferences"] = [dict(self._owner)]
        pool = {"name": self._pool, "generation": generation, "resourceSliceCount": count}
        spec = {"driver": self._driver, "pool": pool, **self._where, "devices": devices}
        body = {"metadata": metadata, "spec": spec}
        stored = await self._kube.apply(RESOURCE_SLICES, body, manager=self._manager)
        self._written[name] = stored
        missing = _missing(_plain(devices), _plain(msgspec.to_builtins(stored.spec.devices)))
        if missing:
            raise DroppedFields(name, missing)

    async def _delete(self, name: str) -> None:
        self._written.pop(name, None)
        try:
            await self._kube.delete(RESOURCE_SLICES, name)
        except NotFound:
            return


def _generation(present: Mapping[str, ResourceSlice]) -> int:
    return max((item.spec.pool.generation for item in present.values()), default=0)


def _version(item: ResourceSlice) -> int:
    return int(item.metadata.resource_version or 0)


def _plain(devices: Iterable[Any]) -> list[Any]:
    """Return devices as our types see them, quantities canonical: what the server prints, not what was written."""
    typed = msgspec.convert(list(devices), list[Device])
    plain: list[Any] = _canonical(msgspec.to_builtins(typed), "")
    return plain


def _canonical(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        return {name: _canonical(item, name) for name, item in value.items() if name != "timeAdded"}
    if isinstance(value, list):
        return [_canonical(item, key) for item in value]
    return Quantity.parse(value).nanos if key in _QUANTITY_KEYS and _is_quantity(value) else value


def _is_quantity(value: Any) -> bool:
    """Tell whether a `value` is a capacity's or counter's; that of a taint is any text."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    try:
        Quantity.parse(value)
    except NeverError:
        return False
    return True


def _missing(wanted: Any, stored: Any, path: str = "devices") -> list[str]:
    """Return the paths at which `stored` is not what was wanted; lists have to be equal in length and order."""
    if isinstance(wanted, dict) and isinstance(stored, dict):
        paths = [found for key in wanted for found in _missing(wanted[key], stored.get(key), f"{path}.{key}")]
        # a field that only the server has was left over from before, or is somebody else's
        return paths + [f"{path}.{key}" for key in stored.keys() - wanted.keys()]
    if isinstance(wanted, list) and isinstance(stored, list) and len(wanted) == len(stored):
        return [
            found
            for index, (one, other) in enumerate(zip(wanted, stored, strict=True))
            for found in _missing(one, other, f"{path}[{index}]")
        ]
    return [] if wanted == stored else [path]
