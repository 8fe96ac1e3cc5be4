# SPDX-License-Identifier: Apache-2.0
"""What all controllers are made of: shared caches, a queue of keys, and care about what a cache does not show yet.

Every controller is level-triggered: an event only puts a key into the queue; the work compares what should be with what
is, and may run any number of times. What it created it must see in its cache before it counts again, or it would create
it twice: `created` notes the version, and `caught_up` says whether the cache has come as far.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dynamic_memory.api.wire import Kind
from dynamic_memory.embedded.controllers.objects import PODS, Object, controller_of
from dynamic_memory.kube.errors import ApiError, NotFound
from dynamic_memory.kube.events import EventRecorder, reference
from dynamic_memory.kube.informer import Informer
from dynamic_memory.kube.interface import Kube
from dynamic_memory.kube.queue import EARLY, WorkQueue
from dynamic_memory.process import clock

__all__ = ["Caches", "Controller", "Deadlines", "age_of"]

log = logging.getLogger(__name__)

_AGAIN = 0.02


class Caches:
    """One cache for each kind, shared by all controllers.

    Args:
        kube: the API server.

    """

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self._informers: dict[str, Informer[Object]] = {}

    def of(self, kind: Kind[Object]) -> Informer[Object]:
        """Return the cache of a kind; found `by_index("owner", uid)`, pods also `by_index("node", name)`."""
        found = self._informers.get(str(kind))
        if found is None:
            indexes: dict[str, Callable[[Object], Iterable[str]]] = {"owner": _owner}
            if kind is PODS:
                indexes["node"] = _node
            found = self._informers[str(kind)] = Informer(self.kube, kind, indexes=indexes)
        return found

    def known(self, name: str) -> Informer[Object]:
        """Return the cache of a kind by `str(kind)`."""
        return self._informers[name]

    @property
    def synced(self) -> bool:
        """Whether all caches have had their first list."""
        return all(informer.synced for informer in self._informers.values())

    async def run(self) -> None:
        """Follow the server for ever, in all kinds that were asked for."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers.values():
                group.create_task(informer.run())

    async def wait_synced(self) -> None:
        """Wait for all first lists."""
        for informer in list(self._informers.values()):
            await informer.wait_synced()


class Controller:
    """Base of the controllers.

    Args:
        caches: shared by all.

    Attributes:
        name: who speaks in events.
        workers: how many keys are worked on at the same time.

    """

    name = "controller"
    workers = 4

    def __init__(self, caches: Caches) -> None:
        self.caches = caches
        self.kube = caches.kube
        self.queue = WorkQueue(initial=0.05, maximum=30.0)
        self.recorder = EventRecorder(caches.kube, self.name, self.name)
        self._created: dict[str, dict[str, int]] = {}

    async def reconcile(self, key: str) -> None:
        """Make what is what should be."""
        raise NotImplementedError

    async def run(self) -> None:
        """Work for ever, once all caches are there."""
        await self.caches.wait_synced()
        async with asyncio.TaskGroup() as group:
            for _ in range(self.workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            failed = True
            try:
                if self.caught_up(key):
                    await self.reconcile(key)
                else:
                    self.queue.add(key, _AGAIN)
                failed = False
            except ApiError as error:
                log.info("%s: %s comes again: %s", self.name, key, error)
            except Exception:
                log.exception("%s: %s failed", self.name, key)
            finally:
                self.queue.done(key, failed=failed)

    def created(self, key: str, kind: Kind[Object], obj: Object) -> None:
        """Note what was created for a key."""
        noted = self._created.setdefault(key, {})
        noted[str(kind)] = max(noted.get(str(kind), 0), int(obj.metadata.resource_version or 0))

    def caught_up(self, key: str) -> bool:
        """Tell whether the caches show everything that was created for a key."""
        noted = self._created.get(key)
        if noted is None:
            return True
        for kind, version in noted.items():
            informer = self.caches.known(kind)
            if int(informer.resource_version or 0) < version:
                return False
        del self._created[key]
        return True

    async def write_status(self, kind: Kind[Object], obj: Object, status: Mapping[str, Any]) -> None:
        """Write fields of the status that differ; what is None is taken away."""
        changed = {
            name: value
            for name, value in status.items()
            if obj.status.get(name) != value and not (value is None and name not in obj.status)
        }
        if not changed:
            return
        body = {"metadata": {"uid": obj.metadata.uid}, "status": changed}
        await self.kube.patch(
            kind, obj.metadata.name, body, namespace=obj.metadata.namespace or None, subresource="status"
        )

    async def delete(self, kind: Kind[Object], obj: Object, *, grace_period: int | None = None) -> bool:
        """Delete an object; tell whether it was there."""
        meta = obj.metadata
        try:
            await self.kube.delete(kind, meta.name, meta.namespace or None, uid=meta.uid, grace_period=grace_period)
        except NotFound:
            return False
        return True

    async def say(self, kind: Kind[Object], obj: Object, type_: str, reason: str, message: str) -> None:
        """Write an event about an object."""
        await self.recorder.event(reference(kind, obj), type=type_, reason=reason, message=message)


class Deadlines:
    """When things are due, on the event loop's clock; what an object says of times is read once."""

    def __init__(self) -> None:
        self._due: dict[str, tuple[Any, float]] = {}

    def left(self, key: str, cause: Any, seconds: float) -> float:
        """Return the seconds until `key` is due: `seconds` from now, if this cause is new."""
        known = self._due.get(key)
        now = clock.monotonic()
        if known is None or known[0] != cause:
            known = self._due[key] = (cause, now + seconds)
        left = known[1] - now
        # The queue hands keys out a trifle early.
        return left if left > EARLY else 0.0

    def forget(self, key: str) -> None:
        """Forget a key."""
        self._due.pop(key, None)


def age_of(stamp: str | None) -> float:
    """Return the seconds since a time that an object states; 0 if it states none."""
    return 0.0 if not stamp else max(0.0, (clock.now() - clock.parse_rfc3339(stamp)).total_seconds())


def _owner(obj: Object) -> list[str]:
    found = controller_of(obj)
    return [] if found is None else [found[2]]


def _node(pod: Object) -> list[str]:
    name = pod.spec.get("nodeName")
    return [name] if name else []
