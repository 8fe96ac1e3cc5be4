# SPDX-License-Identifier: Apache-2.0
"""Pods as the scheduler reads them: more of the spec than roles need, nothing of what containers run."""

from __future__ import annotations

from msgspec import field

from dynamic_memory.api.core import (
    NodeSelector,
    PodResourceClaim,
    PodResourceClaimStatus,
    ResourceRequirements,
    Toleration,
)
from dynamic_memory.api.kinds import PODS
from dynamic_memory.api.meta import Condition, ObjectMeta
from dynamic_memory.api.wire import Kind, QuantityText, Wire

__all__ = [
    "SCHEDULED_PODS",
    "Affinity",
    "Container",
    "ContainerStatus",
    "NodeAffinity",
    "Pod",
    "PodKey",
    "PodSpec",
    "PodStatus",
    "SchedulingGate",
    "finished",
    "key_of",
]

PodKey = tuple[str, str]
"""Namespace and name."""


class NodeAffinity(Wire, frozen=True, kw_only=True):
    """Affinity to nodes; only what is required is read."""

    required: NodeSelector | None = field(default=None, name="requiredDuringSchedulingIgnoredDuringExecution")


class Affinity(Wire, frozen=True, kw_only=True):
    """Affinity; only that to nodes is known."""

    node_affinity: NodeAffinity | None = None


class Container(Wire, frozen=True, kw_only=True):
    """A container, or an init container; one with restart policy Always is a sidecar."""

    name: str
    restart_policy: str | None = None
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)


class SchedulingGate(Wire, frozen=True, kw_only=True):
    """A pod with a gate is not looked at."""

    name: str


class PodSpec(Wire, frozen=True, kw_only=True):
    """What decides where a pod can run."""

    node_name: str = ""
    scheduler_name: str = ""
    node_selector: dict[str, str] = {}
    affinity: Affinity | None = None
    tolerations: list[Toleration] = []
    containers: list[Container] = []
    init_containers: list[Container] = []
    overhead: dict[str, QuantityText] = {}
    resources: ResourceRequirements | None = None
    resource_claims: list[PodResourceClaim] = []
    scheduling_gates: list[SchedulingGate] = []
    priority: int | None = None


class ContainerStatus(Wire, frozen=True, kw_only=True):
    """What a container was admitted with, and what it has: after a resize these differ from its spec."""

    name: str
    allocated_resources: dict[str, QuantityText] = {}
    resources: ResourceRequirements | None = None


class PodStatus(Wire, frozen=True, kw_only=True):
    """What is read of a pod's status."""

    phase: str = ""
    nominated_node_name: str = ""
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []
    resource_claim_statuses: list[PodResourceClaimStatus] = []


class Pod(Wire, frozen=True, kw_only=True):
    """A pod; namespaced."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


SCHEDULED_PODS: Kind[Pod] = Kind(
    group=PODS.group, version=PODS.version, kind=PODS.kind, plural=PODS.plural, namespaced=True, type=Pod
)


def key_of(pod: Pod) -> PodKey:
    """Return namespace and name."""
    return pod.metadata.namespace, pod.metadata.name


def finished(pod: Pod) -> bool:
    """Tell whether the pod holds nothing of its node any more."""
    return pod.status.phase in {"Succeeded", "Failed"}
