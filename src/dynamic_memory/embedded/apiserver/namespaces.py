# SPDX-License-Identifier: Apache-2.0
"""The life of namespaces: those that are always there, what each gets, and how they end.

A namespace being deleted keeps the finalizer `kubernetes` in its spec until all that it holds is gone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from dynamic_memory.embedded.apiserver.api import Api
from dynamic_memory.embedded.apiserver.core import NAMESPACES
from dynamic_memory.embedded.apiserver.deleting import DeleteOptions
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.records import DELETED, Event, Object, Record
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.subresources import finalized
from dynamic_memory.embedded.apiserver.targets import Target
from dynamic_memory.embedded.apiserver.watch import Selection
from dynamic_memory.process import clock

__all__ = ["ALWAYS", "Namespaces"]

ALWAYS = ("default", "kube-system", "kube-public", "kube-node-lease")
ROOT_CA = "kube-root-ca.crt"
_SERVER = UserInfo("system:apiserver", ("system:masters",))
_CONTROLLER = UserInfo("system:serviceaccount:kube-system:namespace-controller", ("system:authenticated",))
_PORT = 443
_MESSAGE = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters."  # noqa: E501 - as the real one says it

Work = Callable[[], Awaitable[None]]


class Namespaces:
    """See the module."""

    def __init__(self, api: Api, root_ca: str) -> None:
        self._api = api
        self._core = api.core
        self._root_ca = root_ca
        self._ending: set[str] = set()
        self._queued: set[str] = set()
        """Those of `_ending` that will be looked at anyway."""

    async def prepare(self) -> None:
        """Make the namespaces that are always there, and the service that stands for the server."""
        for name in ALWAYS:
            if self._core.namespace(name) is None:
                await self._create("namespaces", "", {"metadata": {"name": name}}, _SERVER)
            await self._fill(name)
        service: Object = {
            "metadata": {
                "name": "kubernetes",
                "labels": {"component": "apiserver", "provider": "kubernetes"},
            },
            "spec": {
                "type": "ClusterIP",
                "clusterIP": "10.96.0.1",
                "clusterIPs": ["10.96.0.1"],
                "ports": [{"name": "https", "protocol": "TCP", "port": _PORT, "targetPort": 6443}],
                "sessionAffinity": "None",
                "ipFamilies": ["IPv4"],
                "ipFamilyPolicy": "SingleStack",
                "internalTrafficPolicy": "Cluster",
            },
        }
        await self._create("services", "default", service, _SERVER)

    def known(self, record: Record) -> Iterable[Work]:
        """Take in an object that was there at the start."""
        return self._of_namespace(record) if record.storage == NAMESPACES else ()

    def heard(self, event: Event) -> Iterable[Work]:
        """Return what follows from a change."""
        namespace = event.record.key[0]
        if event.record.storage == NAMESPACES:
            if event.type != DELETED:
                return self._of_namespace(event.record)
            self._ending.discard(event.record.key[1])
        elif namespace in self._ending:
            return self._look(namespace) if event.type == DELETED else ()
        elif event.type == DELETED and namespace and event.record.key[1] in {"default", ROOT_CA}:
            return (lambda: self._fill(namespace),)
        return ()

    def _of_namespace(self, record: Record) -> Iterable[Work]:
        name = record.key[1]
        if not record.object["metadata"].get("deletionTimestamp"):
            return (lambda: self._fill(name),)
        self._ending.add(name)
        return self._look(name)

    def _look(self, name: str) -> Iterable[Work]:
        if name in self._queued:
            return ()
        self._queued.add(name)
        return (lambda: self._end(name),)

    async def _fill(self, namespace: str) -> None:
        found = self._core.namespace(namespace)
        if found is None or found.object["metadata"].get("deletionTimestamp"):
            return
        root: Object = {
            "metadata": {"name": ROOT_CA, "annotations": {"kubernetes.io/description": _MESSAGE}},
            "data": {"ca.crt": self._root_ca},
        }
        await self._create("serviceaccounts", namespace, {"metadata": {"name": "default"}}, _SERVER)
        await self._create("configmaps", namespace, root, _SERVER)

    async def _create(self, plural: str, namespace: str, obj: Object, user: UserInfo) -> None:
        resource = self._resource("", plural)
        name = obj["metadata"]["name"]
        if self._core.store.head(resource.storage, (namespace, name)) is not None:
            return
        target = Target(resource, namespace, name, user, [], manager="kube-apiserver")
        try:
            await self._api.writing.create(target, {**obj, "metadata": dict(obj["metadata"])})
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

    def _resource(self, group: str, plural: str) -> Resource:
        found = self._core.registry.find(group, "v1", plural)
        assert found is not None  # noqa: S101 - a builtin kind
        return found

    async def _end(self, name: str) -> None:
        """Delete what a namespace holds; when nothing is left, let it go."""
        self._queued.discard(name)
        store = self._core.store
        namespace = self._core.namespace(name)
        if namespace is None or "kubernetes" not in (namespace.object.get("spec") or {}).get("finalizers", ()):
            return
        left = 0
        for storage in store.storages():
            resource = next(iter(self._core.registry.versions(storage)), None)
            if resource is None or not resource.namespaced:
                continue
            for record in store.select(storage, Selection(name)):
                metadata = record.object["metadata"]
                if not metadata.get("deletionTimestamp"):
                    await self._delete(resource, record)
                    await clock.sleep(0)  # others want to be served meanwhile
                left += store.head(storage, record.key) is not None
        if not left:
            target = Target(self._resource("", "namespaces"), "", name, _CONTROLLER, [], subresource="finalize")
            await self._api.writing.change(target, _released)

    async def _delete(self, resource: Resource, record: Record) -> None:
        try:
            await self._api.deleting.delete(resource, *record.key, DeleteOptions(propagation="Background"), _CONTROLLER)
        except StatusError as error:
            if error.reason != "NotFound":
                raise


def _released(namespace: dict[str, Any]) -> dict[str, Any]:
    finalizers = (namespace.get("spec") or {}).get("finalizers") or ()
    return finalized(namespace, [name for name in finalizers if name != "kubernetes"])
