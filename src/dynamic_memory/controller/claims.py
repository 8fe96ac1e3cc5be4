# SPDX-License-Identifier: Apache-2.0
"""What the controller reads of claims and pods, and nothing more.

The controller watches every claim and pod of the cluster, so both are decoded to the few fields that matter here and
kept only if they concern us. 10,000 claims then cost some megabytes.
"""

from typing import TypeVar

from msgspec import field

from dynamic_memory.api import kinds, names
from dynamic_memory.api.core import NodeSelector, PodResourceClaim, PodResourceClaimStatus
from dynamic_memory.api.resource import ResourceClaimConsumerReference
from dynamic_memory.api.wire import Kind, Wire

__all__ = [
    "CLAIMS",
    "PODS",
    "ClaimKey",
    "ClaimView",
    "FabricShare",
    "PodView",
    "claim_names",
    "concerns_fabric",
    "key_of",
    "node_of",
    "pods_of",
    "shares_of",
]

T = TypeVar("T")

ClaimKey = tuple[str, str]
"""Namespace and name."""


class Meta(Wire, frozen=True, kw_only=True):
    """Identity of an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str | None = None


class _Request(Wire, frozen=True, kw_only=True):
    device_class_name: str = ""


class _DeviceRequest(Wire, frozen=True, kw_only=True):
    exactly: _Request | None = None
    first_available: list[_Request] = []


class _Devices(Wire, frozen=True, kw_only=True):
    requests: list[_DeviceRequest] = []


class _Spec(Wire, frozen=True, kw_only=True):
    devices: _Devices = field(default_factory=_Devices)


class _Result(Wire, frozen=True, kw_only=True):
    driver: str
    pool: str
    device: str
    share_id: str | None = field(default=None, name="shareID")


class _Results(Wire, frozen=True, kw_only=True):
    results: list[_Result] = []


class _Allocation(Wire, frozen=True, kw_only=True):
    devices: _Results = field(default_factory=_Results)
    node_selector: NodeSelector | None = None


class _Condition(Wire, frozen=True, kw_only=True):
    type: str
    status: str


class _DeviceStatus(Wire, frozen=True, kw_only=True):
    driver: str
    pool: str = ""
    share_id: str | None = field(default=None, name="shareID")
    conditions: list[_Condition] = []


class _Status(Wire, frozen=True, kw_only=True):
    allocation: _Allocation | None = None
    reserved_for: list[ResourceClaimConsumerReference] = []
    devices: list[_DeviceStatus] = []


class ClaimView(Wire, frozen=True, kw_only=True):
    """A ResourceClaim: who it is, which classes it asks, what it got, and for whom."""

    metadata: Meta = field(default_factory=Meta)
    spec: _Spec = field(default_factory=_Spec)
    status: _Status = field(default_factory=_Status)


class _PodSpec(Wire, frozen=True, kw_only=True):
    node_name: str = ""
    resource_claims: list[PodResourceClaim] = []


class _PodStatus(Wire, frozen=True, kw_only=True):
    phase: str = ""
    resource_claim_statuses: list[PodResourceClaimStatus] = []


class PodView(Wire, frozen=True, kw_only=True):
    """A Pod: who it is, where it runs, and its claims."""

    metadata: Meta = field(default_factory=Meta)
    spec: _PodSpec = field(default_factory=_PodSpec)
    status: _PodStatus = field(default_factory=_PodStatus)


def _narrowed(kind: Kind[object], type_: type[T]) -> Kind[T]:
    return Kind(
        group=kind.group,
        version=kind.version,
        kind=kind.kind,
        plural=kind.plural,
        namespaced=kind.namespaced,
        type=type_,
    )


CLAIMS: Kind[ClaimView] = _narrowed(kinds.RESOURCE_CLAIMS, ClaimView)  # type: ignore[arg-type]  # Kind is invariant
PODS: Kind[PodView] = _narrowed(kinds.PODS, PodView)  # type: ignore[arg-type]  # the same


class FabricShare(Wire, frozen=True, kw_only=True):
    """One allocation result of a pool device.

    Attributes:
        tag: its shareID, which is the tag of its extents.
        pool: name of the pool.
        device: name of the pool device.
        reported: the node's driver wrote a condition for it.
        settled: Attached or AttachFailed is True: nobody waits for it any more.

    """

    tag: str
    pool: str
    device: str
    reported: bool = False
    settled: bool = False


def key_of(claim: ClaimView) -> ClaimKey:
    """Return namespace and name of a claim."""
    return claim.metadata.namespace, claim.metadata.name


def shares_of(claim: ClaimView) -> tuple[FabricShare, ...]:
    """Return the shares of pool devices that a claim is allocated; none if it is not allocated, or not by us."""
    allocation = claim.status.allocation
    if allocation is None:
        return ()
    return tuple(
        FabricShare(
            tag=result.share_id,
            pool=result.pool,
            device=result.device,
            reported=bool(_conditions(claim, result.share_id)),
            settled=any(
                c.status == "True" and c.type in {names.ATTACHED, names.ATTACH_FAILED}
                for c in _conditions(claim, result.share_id)
            ),
        )
        for result in allocation.devices.results
        if result.driver == names.DRIVER and result.share_id and names.fabric_domain_of(result.pool) is not None
    )


def concerns_fabric(claim: ClaimView) -> bool:
    """Tell whether a claim holds fabric memory, or asks for it by one of our classes."""
    if shares_of(claim):
        return True
    asked = (r for request in claim.spec.devices.requests for r in (request.exactly, *request.first_available) if r)
    return any(r.device_class_name in {names.CLASS_FABRIC, names.CLASS_WINDOW} for r in asked)


def node_of(claim: ClaimView) -> str | None:
    """Return the node that a claim is allocated to, which the scheduler writes as its node selector (KEP-5007)."""
    allocation = claim.status.allocation
    if allocation is None or allocation.node_selector is None:
        return None
    for term in allocation.node_selector.node_selector_terms:
        for requirement in term.match_fields:
            if requirement.key == "metadata.name" and requirement.operator == "In" and len(requirement.values) == 1:
                return requirement.values[0]
    return None


def pods_of(claim: ClaimView) -> tuple[ResourceClaimConsumerReference, ...]:
    """Return the pods that a claim is reserved for."""
    return tuple(c for c in claim.status.reserved_for if c.resource == "pods" and not c.api_group)


def claim_names(pod: PodView) -> tuple[str, ...]:
    """Return the names of a pod's claims, as far as they are known."""
    made = {s.name: s.resource_claim_name for s in pod.status.resource_claim_statuses}
    found = (c.resource_claim_name or made.get(c.name) for c in pod.spec.resource_claims)
    return tuple(name for name in found if name)


def _conditions(claim: ClaimView, tag: str) -> list[_Condition]:
    return [
        condition
        for device in claim.status.devices
        if device.driver == names.DRIVER and device.share_id == tag
        for condition in device.conditions
    ]
