# SPDX-License-Identifier: Apache-2.0
"""The main job on an embedded cluster, from the seeds' own example: what is done, what is looked at, what must be true.

The example of the project's README names a volume that is not there, and a claim without a source; that form is tried
first, and the API server says so. Then comes the corrected one: claim and pod, the memory, the deletion, the release.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple, Protocol

from dynamic_memory.api import names
from dynamic_memory.embedded.cluster import manifests
from dynamic_memory.embedded.cluster.cluster import Cluster
from dynamic_memory.embedded.cluster.marks import Marks
from dynamic_memory.embedded.cluster.trace import Trace
from dynamic_memory.embedded.kubelet.objects import CLAIMS, NODES, PODS, Object
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.fabric.client import FabricClient
from dynamic_memory.kube.errors import ApiError
from dynamic_memory.quantity import format_bytes

__all__ = ["CORRECTED", "VERBATIM_CLAIM", "VERBATIM_POD", "Picture", "Story", "View"]

POD = "dynamic-memory-pod"
CLAIM = "dynamic-memory-claim"
SIZE = "2Gi"
NAMESPACE = "default"
SECONDS = 20.0
PRECISE = (
    'spec.containers[0].volumeMounts[0].name: Not found: "dynamic-memory"',
    "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
)
"""What a real API server says about the pod as it stands in the README."""

VERBATIM_CLAIM = """\
apiVersion: mygroup.example.com/v1
kind: DynamicMemoryResource
metadata:
  name: dynamic-memory-claim
spec:
  memoryMiB: 2048
"""

VERBATIM_POD = """\
apiVersion: v1
kind: Pod
metadata:
  name: dynamic-memory-pod
spec:
  containers:
    - name: app
      image: yourapplication:latest
      resources:
        requests:
          memory: "512Mi"
      volumeMounts:
        - name: dynamic-memory
          mountPath: /mnt/dynamic-memory
  resourceClaims:
    - name: dynamic-memory-claim
"""

CORRECTED = """\
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata:
  name: dynamic-memory-claim
  namespace: default
spec:
  devices:
    requests:
    - name: memory
      exactly:
        deviceClassName: dra.fabric-memory
        capacity: {requests: {size: 2048Mi}}
---
apiVersion: v1
kind: Pod
metadata:
  name: dynamic-memory-pod
  namespace: default
spec:
  containers:
    - name: app
      image: yourapplication:latest
      resources:
        requests:
          memory: "512Mi"
        claims:
          - name: dynamic-memory-claim
      volumeMounts:
        - name: dynamic-memory
          mountPath: /mnt/dynamic-memory
  volumes:
    - name: dynamic-memory
      emptyDir: {medium: Memory}
  resourceClaims:
    - name: dynamic-memory-claim
      resourceClaimName: dynamic-memory-claim
"""


class Picture(NamedTuple):
    """The cluster at a moment, as rows of tables."""

    nodes: list[tuple[str, ...]]
    pods: list[tuple[str, ...]]
    claims: list[tuple[str, ...]]
    extents: list[tuple[str, ...]]


class View(Protocol):
    """Who shows the story."""

    def chapter(self, title: str) -> None:
        """Begin another part."""
        ...

    def say(self, text: str) -> None:
        """Tell something."""
        ...

    def happened(self, seconds: float, text: str) -> None:
        """Tell what just happened, so many seconds after the submission."""
        ...

    def show(self, picture: Picture, *, whole: bool) -> None:
        """Show the cluster; `whole` at rest, else while things change."""
        ...


class _NotTrue(Exception):
    """Something that must be true is not."""


class Story:
    """See the module.

    Args:
        cluster: it runs, with its roles inline.
        view: who shows it.
        trace: the moments.

    """

    def __init__(self, cluster: Cluster, view: View, trace: Trace) -> None:
        self._cluster = cluster
        self._kube = cluster.kube
        self._view = view
        self.trace = trace
        self._changed = asyncio.Event()
        trace.listeners.append(self._marked)

    async def tell(self) -> list[str]:
        """Do everything; return what went wrong, in sentences."""
        view = self._view
        try:
            async with Marks(self._kube, self.trace, pod=POD, claim=CLAIM, size=SIZE).watching():
                view.chapter("The cluster")
                view.show(await self.picture(), whole=True)
                view.chapter("The example of the README, as it stands there")
                await self._verbatim()
                view.chapter("The same, corrected: a claim for 2048Mi and a pod that uses it")
                await self._attach()
                view.show(await self.picture(), whole=True)
                view.chapter("The pod is deleted, and its memory goes back")
                await self._release()
                view.show(await self.picture(), whole=True)
        except _NotTrue as error:
            return [str(error), *self.trace.faults()]
        return self.trace.faults()

    # --- chapters

    async def _verbatim(self) -> None:
        try:
            await self._apply(VERBATIM_CLAIM)
        except DynamicMemoryError as error:
            self._view.say(f"claim: {error}")
        else:
            raise _NotTrue("the API server took a claim of a kind that is not there")
        try:
            await self._apply(VERBATIM_POD.replace("metadata:\n", f"metadata:\n  namespace: {NAMESPACE}\n"))
        except ApiError as error:
            self._view.say(f"pod: {error}")
            missing = [text for text in PRECISE if text not in str(error)]
            if missing:
                raise _NotTrue(f"the API server did not say: {missing[0]}") from error
        else:
            raise _NotTrue("the API server took a pod without its volume and its claim's source")

    async def _attach(self) -> None:
        self.trace.mark("submitted", "claim and pod are submitted")
        await self._apply(CORRECTED)
        await self._until("running", "the pod runs")
        await self._until("shown", "the node shows the memory")

    async def _release(self) -> None:
        self.trace.mark("deleted", "the pod is deleted")
        await self._kube.delete(PODS, POD, NAMESPACE, grace_period=5)
        await self._until("gone", "the pod is gone")
        await self._until("shown-back", "the node shows that the memory is gone")
        await self._kube.delete(CLAIMS, CLAIM, NAMESPACE)
        if await self._shares():
            raise _NotTrue("the fabric still holds memory")

    async def _apply(self, text: str) -> None:
        await manifests.apply(self._kube, self._cluster.server.core.registry, text, manager="demo")

    async def _until(self, mark: str, what: str) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                while mark not in self.trace.marks:
                    self._changed.clear()
                    await self._changed.wait()
                    self._view.show(await self.picture(), whole=False)
        except TimeoutError:
            raise _NotTrue(f"not within {SECONDS:g} s: {what}") from None

    # --- what is seen

    def _marked(self, name: str, moment: float, text: str) -> None:
        self._changed.set()
        start = self.trace.marks.get("submitted")
        if text and start is not None and name not in {"capacity", "published"}:
            self._view.happened(moment - start, text)

    # --- pictures

    async def picture(self) -> Picture:
        """Return the cluster as it is now."""
        nodes = (await self._kube.list(NODES)).items
        pods = (await self._kube.list(PODS, namespace=NAMESPACE)).items
        claims = (await self._kube.list(CLAIMS, namespace=NAMESPACE)).items
        return Picture(
            [
                (
                    node.metadata.name,
                    "Ready" if _condition(node.status, "Ready") == "True" else "NotReady",
                    _amount(node, "memory"),
                    _amount(node, names.EXTENDED_RESOURCE),
                    self._ceiling(node.metadata.name),
                )
                for node in nodes
            ],
            [(pod.metadata.name, _phase(pod), str(pod.spec.get("nodeName") or "")) for pod in pods],
            [(claim.metadata.name, *_claim_row(claim)) for claim in claims],
            await self._shares(),
        )

    def _ceiling(self, node: str) -> str:
        limit = self._cluster.nodes[node].runtime.cgroups.limit()
        return "" if limit is None else format_bytes(limit)

    async def _shares(self) -> list[tuple[str, ...]]:
        client = FabricClient.connect(
            f"unix:{self._cluster.folder.service_socket}",
            None,
            identity=f"dynamic-memory://{self._cluster.config.owner}/role/operator",
        )
        try:
            shares = (await client.list_extents()).shares
        finally:
            await client.close()
        return [
            (share.tag, share.node, share.pool, share.device, str(len(share.ranges)), format_bytes(share.size))
            for share in shares
        ]


def _condition(status: dict[str, Any], kind: str) -> str:
    return next((str(each["status"]) for each in status.get("conditions") or () if each["type"] == kind), "")


def _amount(node: Object, name: str) -> str:
    return str((node.status.get("capacity") or {}).get(name, ""))


def _phase(pod: Object) -> str:
    return "Terminating" if pod.metadata.deletion_timestamp else str(pod.status.get("phase") or "Pending")


def _claim_row(claim: Object) -> tuple[str, str, str]:
    """Return state, node and what the driver says."""
    status = claim.status
    allocation = status.get("allocation")
    if not allocation:
        return "pending", "", ""
    terms = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or [{}]
    node = next((value for field in terms[0].get("matchFields") or () for value in field["values"]), "")
    conditions = [each for device in status.get("devices") or () for each in device.get("conditions") or ()]
    attached = next((each for each in conditions if each["type"] == names.ATTACHED), None)
    said = "" if attached is None else f"Attached={attached['status']} {attached['reason']}"
    return "allocated,reserved" if status.get("reservedFor") else "allocated", node, said
