# SPDX-License-Identifier: Apache-2.0
"""`schedule` against an API server: read everything, decide, and with `--bind` do what was decided.

Objects are read as plain data, because a pod of the prototype has fields that the types of Kubernetes do not know. What
is written follows the order of kube-scheduler: claims first, each only if it is still as it was when it was read; then
the conditions of its devices are waited for; the pod is bound last. If the wait fails, what was allocated here is taken
back. Every step can be repeated: a run that was interrupted is finished by the next, and a run after that does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from dynamic_memory.allocation.prototype.documents import Document
from dynamic_memory.allocation.prototype.loader import Loader, encode
from dynamic_memory.allocation.prototype.outcomes import ClaimOutcome, Decision
from dynamic_memory.allocation.prototype.schedule import Scheduler
from dynamic_memory.allocation.prototype.types import GROUP, ConfigRef
from dynamic_memory.allocation.prototype.world import World
from dynamic_memory.api import meta, resource
from dynamic_memory.api.wire import Kind
from dynamic_memory.errors import NeverError, RetryError
from dynamic_memory.kube import conditions
from dynamic_memory.kube.errors import ApiError, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock

__all__ = ["SCHEDULER_NAME", "BindingFailed", "NotOurs", "Options", "WaitsForClaim", "decide_and_bind", "on_cluster"]

SCHEDULER_NAME = "dynamic-memory"
POLL_SECONDS = 1.0
FINALIZER = "resource.kubernetes.io/delete-protection"
Body = dict[str, Any]


def _kind(group: str, version: str, kind: str, plural: str, *, namespaced: bool) -> Kind[Body]:
    return Kind(group=group, version=version, kind=kind, plural=plural, namespaced=namespaced, type=Body)


def _prototype(kind: str, *, namespaced: bool = True) -> Kind[Body]:
    plural = f"{kind.lower()}es" if kind.endswith("s") else f"{kind.lower()}s"
    return _kind(GROUP, "v1alpha1", kind, plural, namespaced=namespaced)


PODS = _kind("", "v1", "Pod", "pods", namespaced=True)
CLAIMS = _prototype("DeviceClaim")
RESOURCE_CLAIMS = _kind("resource.k8s.io", "v1", "ResourceClaim", "resourceclaims", namespaced=True)
_READ = (
    _kind("", "v1", "Node", "nodes", namespaced=False),
    _prototype("DeviceDriver", namespaced=False),
    _prototype("DeviceClass", namespaced=False),
    _prototype("DevicePool", namespaced=False),
    CLAIMS,
    _prototype("DevicePrivilegedClaim"),
    _prototype("DeviceSetClaim"),
    _prototype("DeviceClaimTemplate"),
    _kind("resource.k8s.io", "v1", "DeviceClass", "deviceclasses", namespaced=False),
    _kind("resource.k8s.io", "v1", "ResourceSlice", "resourceslices", namespaced=False),
    RESOURCE_CLAIMS,
    _kind("resource.k8s.io", "v1", "ResourceClaimTemplate", "resourceclaimtemplates", namespaced=True),
)
_GROUPS = tuple(
    _kind("scheduling.k8s.io", version, "PodGroup", "podgroups", namespaced=True)
    for version in ("v1", "v1beta1", "v1alpha3")
)


class Options(NamedTuple):
    """What the command line says."""

    namespace: str
    pod: str
    bind: bool = False
    timeout: float = 600.0
    verbose: bool = False
    strict: bool = False


class NotOurs(NeverError):
    """The pod is another scheduler's."""

    def __init__(self, pod: str, scheduler: str) -> None:
        super().__init__(pod, scheduler)
        self.pod = pod
        self.scheduler = scheduler

    def __str__(self) -> str:
        return (
            f"pod {self.pod} is not bound: its schedulerName is {self.scheduler or 'default-scheduler'!r}, "
            f"and only pods with {SCHEDULER_NAME!r} are this command's; "
            "two allocators on one pool can give a device away twice"
        )


class BindingFailed(RetryError):
    """The devices of a claim did not become ready; what was allocated was taken back."""

    def __init__(self, claim: str, why: str) -> None:
        super().__init__(claim, why)
        self.claim = claim
        self.why = why

    def __str__(self) -> str:
        return f"claim {self.claim}: {self.why}; its allocation was taken back"


class WaitsForClaim(RetryError):
    """A claim that somebody else makes is not there yet."""

    def __init__(self, claim: str, form: str) -> None:
        super().__init__(claim, form)
        self.claim = claim
        self.form = form

    def __str__(self) -> str:
        maker = "kube-scheduler" if self.form == "P10" else "the resource claim controller"
        return f"claim {self.claim} does not exist yet; {maker} makes it, and this command does not"


def on_cluster(kubeconfig: Path, options: Options) -> tuple[Decision, str]:
    """Decide about a pod of the cluster that a kubeconfig names, and bind it if asked to."""
    from dynamic_memory.kube.client import Client  # noqa: PLC0415 - the client is only for this form

    async def main() -> tuple[Decision, str]:
        kube = Client.from_environment(str(kubeconfig))
        try:
            return await decide_and_bind(kube, options, lambda line: click.echo(f"warning: {line}", err=True))
        finally:
            await kube.close()

    return asyncio.run(main())


async def decide_and_bind(
    kube: Kube, options: Options, warn: Callable[[str], None] = lambda _: None
) -> tuple[Decision, str]:
    """Return the decision, and what was done about it.

    Raises:
        ApiError: the API server refuses something, or a claim changed meanwhile.
        NotOurs: the pod is to be bound, but is another scheduler's.
        BindingFailed: devices were allocated and did not become ready.
        InvalidInput: the pod or one of its claims is not valid.

    """
    world, pod = await _read(kube, options, warn)
    scheduler = Scheduler(world, lambda: str(uuid.uuid4()), verbose=options.verbose)
    decision = scheduler.place(pod)
    if not options.bind:
        return decision, "dry run: nothing was written"
    if decision.node is None:
        return decision, ""
    name = f"{options.namespace}/{options.pod}"
    if decision.bound and not any(claim.changed for claim in decision.claims):
        return decision, "bound before: nothing to do"
    scheduler_name = str((pod.body.get("spec") or {}).get("schedulerName") or "")
    if scheduler_name != SCHEDULER_NAME:
        raise NotOurs(name, scheduler_name)
    for claim in decision.claims:
        if claim.use.made and isinstance(claim.use.claim, resource.ResourceClaim):
            raise WaitsForClaim(claim.name, claim.use.form)
    writer = _Writer(kube, options.namespace, pod.body)
    await writer.write(decision, options.timeout)
    return decision, "bound"


# --- reading


async def _read(kube: Kube, options: Options, warn: Callable[[str], None]) -> tuple[World, Document]:
    loader = Loader(strict=options.strict, warn=warn)
    body = await kube.get(PODS, options.pod, options.namespace)
    loader.add(_document(PODS, body))
    for kind in _READ:
        for item in await _list(kube, kind):
            loader.add(_document(kind, item))
    namespaces = _kind("", "v1", "Namespace", "namespaces", namespaced=False)
    # A server may do without namespaces; then nobody has administrative access.
    with contextlib.suppress(NotFound):
        loader.add(_document(namespaces, await kube.get(namespaces, options.namespace)))
    if (body.get("spec") or {}).get("schedulingGroup"):
        for kind in _GROUPS:
            for item in await _list(kube, kind):
                loader.add(_document(kind, item))
    world = loader.world
    plurals: dict[tuple[str, str], tuple[str, bool] | None] = {}
    for reference in dict.fromkeys(_references(world, body, options.namespace)):
        found = await _config(kube, reference, plurals)
        if found is not None:
            world.put_config(found)
    return world, world.sources[options.namespace, options.pod]


def _document(kind: Kind[Body], body: Body) -> Document:
    """Return an object as a document; lists of the server leave kind and version out."""
    metadata = body["metadata"]
    place = f"{metadata['namespace']}/" if metadata.get("namespace") else ""
    whole = {**body, "apiVersion": kind.api_version, "kind": kind.kind}
    return Document(f"{kind.kind} {place}{metadata['name']}", 1, whole)


async def _list(kube: Kube, kind: Kind[Body]) -> list[Body]:
    try:
        return (await kube.list(kind)).items
    except NotFound:
        return []  # the server does not know the kind


def _references(world: World, pod: Body, namespace: str) -> Iterator[ConfigRef]:
    """Yield what classes and claims refer to, with the namespace filled in."""

    def within(references: Iterable[ConfigRef], place: str) -> Iterator[ConfigRef]:
        for entry in references:
            version = entry.api_version or "v1"
            yield ConfigRef(api_version=version, kind=entry.kind, name=entry.name, namespace=entry.namespace or place)

    for found in world.classes.values():
        if found.spec.definition is not None:
            yield from within(found.spec.definition.configs, namespace)
    for (place, _), claim in world.claims.items():
        if place == namespace:
            yield from within(claim.spec.configs, place)
            for instance in claim.spec.devices:
                for detail in (*instance.all_of, *instance.one_of):
                    yield from within(detail.configs, place)
    yield from _generators(pod, namespace)


def _generators(pod: Body, namespace: str) -> Iterator[ConfigRef]:
    """Yield the objects whose status holds a claim for the pod."""
    entries = (pod.get("spec") or {}).get("deviceClaims")
    for entry in entries if isinstance(entries, list) else ():
        generator = ((entry.get("source") or {}).get("generator") or {}).get("generatorRef") or {}
        if {"apiVersion", "kind", "name"} <= set(generator):
            version, kind, name = (str(generator[key]) for key in ("apiVersion", "kind", "name"))
            yield ConfigRef(api_version=version, kind=kind, name=name, namespace=namespace)


async def _config(
    kube: Kube, reference: ConfigRef, plurals: dict[tuple[str, str], tuple[str, bool] | None]
) -> Body | None:
    """Read an object of any kind; None if it, or its kind, does not exist."""
    group, _, version = reference.api_version.rpartition("/")
    key = (reference.api_version, reference.kind)
    try:
        if key not in plurals:
            path = f"/apis/{group}/{version}" if group else f"/api/{version}"
            served = json.loads(await kube.get_raw(path)).get("resources", [])
            plurals[key] = next(
                ((entry["name"], entry.get("namespaced", True)) for entry in served if entry.get("kind") == key[1]),
                None,
            )
        known = plurals[key]
        if known is None:
            return None
        plural, namespaced = known
        kind = _kind(group, version, reference.kind, plural, namespaced=namespaced)
        body = await kube.get(kind, reference.name, reference.namespace if namespaced else None)
    except NotFound:
        plurals.setdefault(key, None)
        return None
    return {**body, "apiVersion": reference.api_version, "kind": reference.kind}


# --- writing


class _Writer:
    """Writes one decision."""

    def __init__(self, kube: Kube, namespace: str, pod: Body) -> None:
        self._kube = kube
        self._namespace = namespace
        self._pod = pod
        self._allocated: list[ClaimOutcome] = []

    async def write(self, decision: Decision, timeout: float) -> None:
        for claim in decision.claims:
            if claim.changed:
                await self._claim(claim)
        try:
            async with asyncio.timeout(timeout):
                for claim in decision.claims:
                    await self._ready(claim)
        except TimeoutError:
            await self._take_back()
            raise BindingFailed(self._waiting, f"its devices were not ready after {timeout:g} s") from None
        except BindingFailed:
            await self._take_back()
            raise
        if not decision.bound:
            await self._bind(str(decision.node))

    _waiting = ""

    async def _claim(self, outcome: ClaimOutcome) -> None:
        claim = outcome.use.claim
        if isinstance(claim, resource.ResourceClaim):
            await self._resource_claim(outcome, claim)
            return
        kind = _prototype(type(claim).__name__)
        version = claim.metadata.resource_version
        if outcome.use.made:
            made: Body = {
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": {
                    "name": outcome.name,
                    **({"labels": claim.metadata.labels} if claim.metadata.labels else {}),
                    "ownerReferences": [self._owner()],
                },
                "spec": encode(claim.spec),
            }
            created = await self._kube.create(kind, made, namespace=self._namespace)
            version = str(created["metadata"].get("resourceVersion", ""))
        # Lists are replaced as a whole; the part of the drivers is not touched.
        status = {name: outcome.status[name] for name in outcome.status if name != "deviceStatuses"}
        await self._patch_status(kind, outcome.name, version, status)

    def _owner(self) -> Body:
        metadata = self._pod["metadata"]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "name": metadata["name"],
            "uid": metadata.get("uid", ""),
            "controller": True,
        }

    async def _patch_status(self, kind: Kind[Body], name: str, version: str, status: Body) -> None:
        body: Body = {"metadata": {"resourceVersion": version} if version else {}, "status": status}
        try:
            await self._kube.patch(kind, name, body, namespace=self._namespace, subresource="status")
        except NotFound:
            # The kind may have no subresource: then the status is a field like others.
            await self._kube.patch(kind, name, body, namespace=self._namespace)

    async def _resource_claim(self, outcome: ClaimOutcome, claim: resource.ResourceClaim) -> None:
        version = claim.metadata.resource_version
        new = claim.status.allocation is None
        if new and FINALIZER not in claim.metadata.finalizers:
            finalizers = [*claim.metadata.finalizers, FINALIZER]
            body = {"metadata": {"resourceVersion": version, "finalizers": finalizers}}
            found = await self._kube.patch(RESOURCE_CLAIMS, outcome.name, body, namespace=self._namespace)
            version = str(found["metadata"]["resourceVersion"])
        status = {"reservedFor": outcome.status["reservedFor"]}
        if new:
            allocation = encode(outcome.status["allocation"])
            if any(entry.binding_conditions for entry in outcome.status["allocation"].devices.results):
                allocation["allocationTimestamp"] = clock.rfc3339(clock.now())
            status["allocation"] = allocation
            self._allocated.append(outcome)
        await self._patch_status(RESOURCE_CLAIMS, outcome.name, version, status)

    async def _ready(self, outcome: ClaimOutcome) -> None:
        """Wait until all conditions that the devices of a claim have to meet are met."""
        if not isinstance(outcome.use.claim, resource.ResourceClaim) or outcome.status["allocation"] is None:
            return
        self._waiting = outcome.name
        waiting = [entry for entry in outcome.status["allocation"].devices.results if entry.binding_conditions]
        while waiting:
            body = await self._kube.get(RESOURCE_CLAIMS, outcome.name, self._namespace)
            devices = (body.get("status") or {}).get("devices") or []
            waiting = [entry for entry in waiting if not _met(entry, devices, outcome.name)]
            if waiting:
                await clock.sleep(POLL_SECONDS)

    async def _take_back(self) -> None:
        """Undo the allocations of this run; the drivers see it and give back what they attached."""
        for outcome in self._allocated:
            body = await self._kube.get(RESOURCE_CLAIMS, outcome.name, self._namespace)
            version = str(body["metadata"]["resourceVersion"])
            try:
                status = {"allocation": None, "reservedFor": None}
                await self._patch_status(RESOURCE_CLAIMS, outcome.name, version, status)
            except ApiError as error:
                raise BindingFailed(outcome.name, f"its allocation could not be taken back ({error})") from error

    async def _bind(self, node: str) -> None:
        metadata = self._pod["metadata"]
        own = {"name": metadata["name"], "namespace": self._namespace}
        if metadata.get("uid"):
            own["uid"] = metadata["uid"]
        target = {"apiVersion": "v1", "kind": "Node", "name": node}
        path = f"/api/v1/namespaces/{self._namespace}/pods/{metadata['name']}/binding"
        await self._kube.create_raw(path, {"apiVersion": "v1", "kind": "Binding", "metadata": own, "target": target})


def _met(entry: resource.DeviceRequestAllocationResult, devices: Iterable[Body], claim: str) -> bool:
    """Tell whether a device meets its conditions.

    Raises:
        BindingFailed: one of its failure conditions is true.

    """
    own: list[meta.Condition] = []
    for device in devices:
        same = (entry.driver, entry.pool, entry.device) == (device["driver"], device["pool"], device["device"])
        if same and entry.share_id == device.get("shareID"):
            own = [_condition(found) for found in device.get("conditions") or ()]
    for name in entry.binding_failure_conditions:
        found = conditions.find(own, name)
        if found is not None and found.status == "True":
            raise BindingFailed(claim, f"{name}: {found.message or found.reason}")
    met = (conditions.find(own, name) for name in entry.binding_conditions)
    return all(found is not None and found.status == "True" for found in met)


def _condition(body: Body) -> meta.Condition:
    return meta.Condition(
        type=body["type"], status=body["status"], reason=body.get("reason", ""), message=body.get("message", "")
    )
