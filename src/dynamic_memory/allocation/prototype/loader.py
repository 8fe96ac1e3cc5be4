# SPDX-License-Identifier: Apache-2.0
"""From documents to a `World`: what objects there are, of whichever generation.

The loader reads a superset of the types. It mends what it can (repairs.py), leaves out fields that nobody knows, and
tells each of these once; a strict loader refuses instead. Objects of kinds that are not ours are kept as they are:
claims refer to them as configuration.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import msgspec

from dynamic_memory.allocation.prototype.documents import Document, Readable, read_documents
from dynamic_memory.allocation.prototype.errors import DocumentError
from dynamic_memory.allocation.prototype.inventory import Inventory
from dynamic_memory.allocation.prototype.repairs import is_counting, repaired
from dynamic_memory.allocation.prototype.types import (
    GROUP,
    DeviceClaim,
    DeviceClaimTemplate,
    DeviceClass,
    DeviceDriver,
    DevicePool,
    DevicePrivilegedClaim,
    DeviceSetClaim,
)
from dynamic_memory.allocation.prototype.world import World
from dynamic_memory.api import core, resource
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

__all__ = ["Loader", "convert", "encode"]

T = TypeVar("T")

RESOURCE = "resource.k8s.io/v1"
PROGRESS_EVERY = 10_000
MAX_UNKNOWN = 100
MAX_NAME = 253
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(?P<name>[^`]*)`(?: - at `\$(?P<path>[^`]*)`)?")
_PLACE = re.compile(r"^(?P<problem>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP = re.compile(r"\.(?P<key>[^.\[\]]+)|\[(?P<index>\d+)\]")

_PROTOTYPE: dict[str, type[Any]] = {
    "DeviceClass": DeviceClass,
    "DeviceClaim": DeviceClaim,
    "DevicePool": DevicePool,
    "DeviceDriver": DeviceDriver,
    "DevicePrivilegedClaim": DevicePrivilegedClaim,
    "DeviceSetClaim": DeviceSetClaim,
    "DeviceClaimTemplate": DeviceClaimTemplate,
}
_STABLE: dict[str, type[Any]] = {
    "DeviceClass": resource.DeviceClass,
    "ResourceClaim": resource.ResourceClaim,
    "ResourceClaimTemplate": resource.ResourceClaimTemplate,
    "ResourceSlice": resource.ResourceSlice,
}
_NAMES = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_./+:]*[A-Za-z0-9])?")


def _hook(type_: type[Any], value: Any) -> Any:
    if type_ is Quantity:
        try:
            return Quantity.parse(repr(value) if isinstance(value, float) else value)
        except InvalidInput as error:
            raise ValueError(f"Expected {error.expected}, got {value!r}") from error
    raise NotImplementedError


def convert(body: Any, type_: type[T]) -> T:
    """Make a wire type of plain data.

    Raises:
        msgspec.ValidationError: it does not fit; the text ends with the place.

    """
    return msgspec.convert(body, type_, dec_hook=_hook)


def encode(value: Any) -> Any:
    """Make plain data of a wire type; quantities become strings."""
    return msgspec.to_builtins(value, enc_hook=str)


class Loader:
    """Fills a world with what it reads.

    Args:
        strict: refuse what would have to be mended.
        warn: called with each repair, as one line.
        progress: called now and then with the number of devices read so far.
        max_devices: how many devices there may be at most.

    """

    def __init__(
        self,
        *,
        strict: bool = False,
        warn: Callable[[str], None] = lambda _: None,
        progress: Callable[[int], None] = lambda _: None,
        max_devices: int = 5_000_000,
    ) -> None:
        self.world = World()
        self._strict = strict
        self._warn = warn
        self._progress = progress
        self._max_devices = max_devices
        self._told = 0

    def read(self, text: str | Readable, source: str) -> None:
        """Read all documents of a text.

        Raises:
            DocumentError: something is wrong; what stood before it has been read.

        """
        # The generation of a class may only show in other objects of its file: classes wait for the end.
        counting = False
        waiting: list[Document] = []
        for document in read_documents(text, source):
            counting = counting or is_counting(document.body)
            if document.body.get("kind") == "DeviceClass":
                waiting.append(document)
            else:
                self.add(document, counting=counting)
        for document in waiting:
            self.add(document, counting=counting)

    def read_all(self, texts: Iterable[tuple[str, str | Readable]]) -> World:
        """Read texts, each with its name, and return what there is then."""
        for source, text in texts:
            self.read(text, source)
        return self.world

    def add(self, document: Document, *, counting: bool = False) -> None:
        """Take one object in.

        Raises:
            DocumentError: it is not valid.

        """
        version, kind = document.body.get("apiVersion"), document.body.get("kind")
        if not isinstance(version, str) or not isinstance(kind, str):
            raise document.error("apiVersion" if not isinstance(version, str) else "kind", "a string", None)
        metadata = document.body.get("metadata")
        name = metadata.get("name") if isinstance(metadata, dict) else None
        if not isinstance(name, str) or len(name) > MAX_NAME or not _NAMES.fullmatch(name):
            raise document.error("metadata.name", "a name", name)
        group = version.partition("/")[0]
        if group == GROUP:
            self._prototype(document, kind, counting=counting)
        elif version == RESOURCE and kind in _STABLE:
            self.world.put_stable(self._convert(document, document.body, _STABLE[kind]))
        elif version == "v1" and kind == "Node":
            self.world.nodes[name] = self._convert(document, document.body, core.Node)
        elif version == "v1" and kind == "Pod":
            self.world.put_pod(document)
        elif version == "v1" and kind == "Namespace":
            self.world.put_namespace(document.body)
        elif kind == "PodGroup" and group == "scheduling.k8s.io":
            self.world.put_group(document.body)
        else:
            body, repairs = repaired(document.body, counting=counting)
            self._tell(document, repairs)
            self.world.put_config(body)

    def _prototype(self, document: Document, kind: str, *, counting: bool) -> None:
        type_ = _PROTOTYPE.get(kind)
        if type_ is None:
            raise document.error("kind", f"one of {', '.join(_PROTOTYPE)}", kind)
        body, repairs = repaired(document.body, counting=counting)
        self._tell(document, repairs)
        found = self._convert(document, body, type_)
        if isinstance(found, DevicePool):
            self._pool(document, found)
        else:
            self.world.put(found)

    def _pool(self, document: Document, pool: DevicePool) -> None:
        inventory: Inventory = self.world.inventory
        if inventory.devices + len(pool.spec.devices) > self._max_devices:
            raise document.error("spec.devices", f"at most {self._max_devices} devices in all")
        try:
            inventory.put(pool)
        except InvalidInput as error:
            raise document.error(error.path, error.expected, error.got) from error
        if inventory.devices - self._told >= PROGRESS_EVERY:
            self._told = inventory.devices
            self._progress(inventory.devices)

    def _tell(self, document: Document, repairs: Iterable[Any]) -> None:
        for repair in repairs:
            if self._strict and not repair.minor:
                raise document.error(repair.path, f"what the types of the prototype say (could be {repair.text})")
            kind, name = document.body.get("kind"), document.body.get("metadata", {}).get("name")
            self._warn(f"{document.source}: document {document.number}: {kind} {name}: {repair.path}: {repair.text}")

    def _convert(self, document: Document, body: dict[str, Any], type_: type[T]) -> T:
        for _ in range(MAX_UNKNOWN):
            try:
                return convert(body, type_)
            except msgspec.ValidationError as error:
                unknown = _UNKNOWN_FIELD.search(str(error))
                if unknown is None:
                    raise _located(document, error) from error
                place = f"{unknown['path'] or ''}.{unknown['name']}".lstrip(".")
                if self._strict:
                    raise document.error(place, "no such field") from error
                self._tell(document, [_Unknown(place)])
                body = _without(body, unknown["path"] or "", unknown["name"])
        raise document.error("", f"at most {MAX_UNKNOWN} unknown fields")


class _Unknown:
    minor = True
    text = "unknown field left out"

    def __init__(self, path: str) -> None:
        self.path = path


def _located(document: Document, error: msgspec.ValidationError) -> DocumentError:
    match = _PLACE.match(str(error))
    problem, path = (match["problem"], match["path"] or "") if match else (str(error), "")
    expected = problem.removeprefix("Expected ")
    return document.error(path.lstrip(".") or "it", expected)


def _steps(path: str) -> Iterator[str | int]:
    for step in _STEP.finditer(path):
        yield int(step["index"]) if step["index"] is not None else step["key"]


def _without(body: Any, path: str, name: str) -> Any:
    """Return a copy without one field; only what lies on the way to it is copied."""
    root: dict[str, Any] = dict(body)
    place: Any = root
    for step in _steps(path):
        inner = place[step]
        inner = dict(inner) if isinstance(inner, dict) else list(inner)
        place[step] = inner
        place = inner
    del place[name]
    return root
