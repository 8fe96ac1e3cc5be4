# SPDX-License-Identifier: Apache-2.0
"""The claim controller: claims from templates, and claims let go when their pods end.

As `pkg/controller/resourceclaim` of Kubernetes: a pod that names a template gets a claim of its own, owned by the pod
and found again by an annotation; the names are written into the pod's status. When the last pod that reserved a claim
has ended or is gone, the claim is deallocated, and deleted if it was made for that pod. References to anything but pods
in `reservedFor` are nobody's business here and stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.controllers.controller import Caches, Controller
from dynamic_memory.embedded.controllers.objects import (
    CLAIMS,
    PODS,
    TEMPLATES,
    Object,
    controller_of,
    is_finished,
    key_of,
    owner_reference,
    split,
)
from dynamic_memory.kube.errors import ApiError, NotFound
from dynamic_memory.kube.informer import Change

__all__ = ["FINALIZER", "POD_CLAIM_NAME", "ClaimController"]

FINALIZER = "resource.kubernetes.io/delete-protection"
POD_CLAIM_NAME = "resource.kubernetes.io/pod-claim-name"
_NAME_PART = 100


class ClaimController(Controller):
    """See the module; keys are `pod:namespace/name` and `claim:namespace/name`."""

    name = "resource_claim"
    workers = 8

    def __init__(self, caches: Caches) -> None:
        super().__init__(caches)
        self._pods = caches.of(PODS)
        self._claims = caches.of(CLAIMS)
        self._templates = caches.of(TEMPLATES)
        self._waiting: dict[str, set[str]] = {}
        self._pods.subscribe(self._pod_changed)
        self._claims.subscribe(self._claim_changed)
        self._templates.subscribe(self._template_changed)

    # --- what happens

    def _pod_changed(self, change: Change[Object]) -> None:
        pod = change.object
        entries = pod.spec.get("resourceClaims")
        if not entries:
            return
        gone = change.type == "deleted" or _done(pod)
        if not gone:
            templated = any(entry.get("resourceClaimTemplateName") for entry in entries)
            if templated and _names(pod).keys() != {entry["name"] for entry in entries}:
                self.queue.add(f"pod:{key_of(pod)}")
            return
        namespace = pod.metadata.namespace
        for name in _names(pod).values():
            if name:
                self.queue.add(f"claim:{namespace}/{name}")
        for claim in self._claims.by_index("owner", pod.metadata.uid):
            self.queue.add(f"claim:{key_of(claim)}")

    def _claim_changed(self, change: Change[Object]) -> None:
        claim = change.object
        owner = controller_of(claim)
        if change.type == "deleted":
            if owner is not None and owner[0] == "Pod":
                self.queue.add(f"pod:{claim.metadata.namespace}/{owner[1]}")
            return
        self.queue.add(f"claim:{key_of(claim)}")

    def _template_changed(self, change: Change[Object]) -> None:
        for key in self._waiting.pop(key_of(change.object), ()):
            self.queue.add(key)

    async def reconcile(self, key: str) -> None:
        """Work on a pod or a claim."""
        what, _, place = key.partition(":")
        namespace, name = split(place)
        if what == "pod":
            pod = self._pods.get(name, namespace)
            if pod is not None and pod.metadata.deletion_timestamp is None and not is_finished(pod):
                await self._make_claims(key, pod)
        else:
            claim = self._claims.get(name, namespace)
            if claim is not None:
                await self._let_go(key, claim)

    # --- claims of templates

    async def _make_claims(self, key: str, pod: Object) -> None:
        names = _names(pod)
        wanted: dict[str, str | None] = {}
        for entry in pod.spec.get("resourceClaims") or ():
            template = entry.get("resourceClaimTemplateName")
            if template is None:
                continue
            known = names.get(entry["name"])
            if known and self._claims.get(known, pod.metadata.namespace) is not None:
                wanted[entry["name"]] = known
                continue
            claim = self._made(pod, entry["name"]) or await self._make(key, pod, entry["name"], template)
            if claim is None:
                return
            wanted[entry["name"]] = claim.metadata.name
        if wanted and wanted != {name: names.get(name) for name in wanted}:
            listed = [{"name": name, "resourceClaimName": claim_name} for name, claim_name in wanted.items()]
            body = {"metadata": {"uid": pod.metadata.uid}, "status": {"resourceClaimStatuses": listed}}
            await self.kube.patch(PODS, pod.metadata.name, body, namespace=pod.metadata.namespace, subresource="status")

    def _made(self, pod: Object, entry: str) -> Object | None:
        """Return the claim that an earlier try has made."""
        for claim in self._claims.by_index("owner", pod.metadata.uid):
            if claim.metadata.annotations.get(POD_CLAIM_NAME) == entry and claim.metadata.deletion_timestamp is None:
                return claim
        return None

    async def _make(self, key: str, pod: Object, entry: str, template_name: str) -> Object | None:
        place = f"{pod.metadata.namespace}/{template_name}"
        template = self._templates.get(template_name, pod.metadata.namespace)
        if template is None:
            self._waiting.setdefault(place, set()).add(key)
            text = (
                f'PodResourceClaim {entry}: resource claim template "{template_name}": '
                f'resourceclaimtemplate.resource.k8s.io "{template_name}" not found'
            )
            await self.say(PODS, pod, "Warning", "FailedResourceClaimCreation", text)
            return None
        inner: Mapping[str, Any] = template.spec.get("metadata") or {}
        prefix = f"{pod.metadata.name[:_NAME_PART]}-{entry[:_NAME_PART]}-"
        body = {
            "metadata": {
                "generateName": prefix,
                "namespace": pod.metadata.namespace,
                "labels": inner.get("labels") or {},
                "annotations": {**(inner.get("annotations") or {}), POD_CLAIM_NAME: entry},
                "ownerReferences": [owner_reference(PODS, pod)],
            },
            "spec": template.spec["spec"],
        }
        try:
            claim = await self.kube.create(CLAIMS, body, namespace=pod.metadata.namespace)
        except ApiError as error:
            text = f"PodResourceClaim {entry}: failed to create ResourceClaim: {error}"
            await self.say(PODS, pod, "Warning", "FailedResourceClaimCreation", text)
            raise
        self.created(key, CLAIMS, claim)
        return claim

    # --- claims let go

    async def _let_go(self, key: str, claim: Object) -> None:
        users = claim.status.get("reservedFor") or []
        kept = [user for user in users if await self._uses(claim, user)]
        fewer = len(kept) < len(users)
        deleting = claim.metadata.deletion_timestamp is not None
        allocated = claim.status.get("allocation") is not None
        if fewer or (deleting and allocated and not kept):
            status: dict[str, Any] = {"reservedFor": kept or None}
            if not kept:
                status |= {"allocation": None, "devices": None}
                allocated = False
            claim = await self.kube.patch(
                CLAIMS,
                claim.metadata.name,
                {"metadata": _version(claim), "status": status},
                namespace=claim.metadata.namespace,
                subresource="status",
            )
            self.created(key, CLAIMS, claim)
        if kept:
            return
        if (fewer or deleting) and not allocated and FINALIZER in claim.metadata.finalizers:
            rest = [name for name in claim.metadata.finalizers if name != FINALIZER]
            body = {"metadata": {**_version(claim), "finalizers": rest or None}}
            await self.kube.patch(CLAIMS, claim.metadata.name, body, namespace=claim.metadata.namespace)
        if not deleting and await self._owner_done(claim):
            await self.delete(CLAIMS, claim)

    async def _uses(self, claim: Object, user: Mapping[str, Any]) -> bool:
        """Tell whether a reservation is still good."""
        if user.get("apiGroup") or user.get("resource") != "pods":
            return True
        pod = await self._pod(claim.metadata.namespace, str(user["name"]), str(user["uid"]))
        return pod is not None and not _done(pod)

    async def _owner_done(self, claim: Object) -> bool:
        owner = controller_of(claim)
        if owner is None or owner[0] != "Pod":
            return False
        pod = await self._pod(claim.metadata.namespace, owner[1], owner[2])
        return pod is None or _done(pod)

    async def _pod(self, namespace: str, name: str, uid: str) -> Object | None:
        """Return a pod. The cache may be behind the claim: that a pod is gone is asked of the server."""
        pod = self._pods.get(name, namespace)
        if pod is not None and pod.metadata.uid == uid:
            return pod
        try:
            pod = await self.kube.get(PODS, name, namespace)
        except NotFound:
            return None
        return pod if pod.metadata.uid == uid else None


def _names(pod: Object) -> dict[str, str | None]:
    """Return the claims of a pod by the names of its entries, as far as they are known."""
    names: dict[str, str | None] = {
        entry["name"]: entry["resourceClaimName"]
        for entry in pod.spec.get("resourceClaims") or ()
        if entry.get("resourceClaimName")
    }
    for status in pod.status.get("resourceClaimStatuses") or ():
        names[status["name"]] = status.get("resourceClaimName")
    return names


def _done(pod: Object) -> bool:
    """Tell whether the pod will not use its claims any more: ended, or deleted before it got a node."""
    return is_finished(pod) or (pod.metadata.deletion_timestamp is not None and not pod.spec.get("nodeName"))


def _version(claim: Object) -> dict[str, str]:
    return {"uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version}
