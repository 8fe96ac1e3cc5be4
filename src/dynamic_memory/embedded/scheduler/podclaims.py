# SPDX-License-Identifier: Apache-2.0
"""The claims of a pod: which they are, whether the pod can use them, and which must be allocated first. Pure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Mapping

from dynamic_memory.allocation.node_selectors import compile_selector
from dynamic_memory.api.core import Node
from dynamic_memory.api.meta import Condition
from dynamic_memory.api.resource import (
    AllocatedDeviceStatus,
    DeviceRequestAllocationResult,
    ResourceClaim,
    ResourceClaimConsumerReference,
)
from dynamic_memory.embedded.scheduler.claims import call_of
from dynamic_memory.embedded.scheduler.types import Pod
from dynamic_memory.errors import NotHereError

__all__ = [
    "RESERVED_LIMIT",
    "BindingFailed",
    "ClaimMissing",
    "ClaimUnusable",
    "Judgement",
    "claim_names",
    "judge",
    "pod_claims",
    "reservation",
    "reserved",
    "sole_user",
    "usable_on",
    "waits",
]

RESERVED_LIMIT = 256
"""Most pods that can use one claim (API)."""


class ClaimMissing(NotHereError):
    """A claim of the pod is not there yet.

    Args:
        calls: what is called when that may have changed.
        message: why, as the pod's condition says it.

    """

    def __init__(self, calls: Collection[str], message: str) -> None:
        self.calls = frozenset(calls)
        self.message = message
        super().__init__(calls, message)

    def __str__(self) -> str:
        return self.message


class ClaimUnusable(ClaimMissing):
    """A claim of the pod is there, but cannot be used as it is."""


class BindingFailed(NotHereError):
    """A device will not become ready: a failure condition, or no condition in time.

    Args:
        claim: name of the claim.
        reason: reason of the condition, or Timeout.
        message: what the condition says.

    """

    def __init__(self, claim: str, reason: str, message: str) -> None:
        self.claim = claim
        self.reason = reason
        self.message = message
        super().__init__(claim, reason, message)

    def __str__(self) -> str:
        return f"device binding failed: claim={self.claim}, reason={self.reason}, message={self.message}"


def claim_names(pod: Pod) -> dict[str, str | None]:
    """Return for each entry of `spec.resourceClaims` the name of the claim; None = none is needed.

    Raises:
        ClaimMissing: the claim of a template is not made yet.

    """
    made = {status.name: status for status in pod.status.resource_claim_statuses}
    names: dict[str, str | None] = {}
    for entry in pod.spec.resource_claims:
        if entry.resource_claim_name is not None:
            names[entry.name] = entry.resource_claim_name
        elif entry.name in made:
            names[entry.name] = made[entry.name].resource_claim_name
        else:
            where = f'pod "{pod.metadata.namespace}/{pod.metadata.name}"'
            raise ClaimMissing({f"pod:{pod.metadata.uid}"}, f"{where}: ResourceClaim not created yet")
    return names


def pod_claims(pod: Pod, find: Callable[[str, str], ResourceClaim | None]) -> list[ResourceClaim]:
    """Return the claims of a pod, each once.

    Raises:
        ClaimMissing: a claim does not exist.
        ClaimUnusable: a claim is going away, or made for another pod.

    """
    namespace = pod.metadata.namespace
    found: dict[str, ResourceClaim] = {}
    templated = {entry.name for entry in pod.spec.resource_claims if entry.resource_claim_template_name is not None}
    for entry, name in claim_names(pod).items():
        if name is None:
            continue
        call = {call_of(namespace, name)}
        claim = find(namespace, name)
        if claim is None:
            raise ClaimMissing(call, f'resourceclaim "{name}" not found')
        if claim.metadata.deletion_timestamp is not None:
            raise ClaimUnusable(call, f'resourceclaim "{name}" is being deleted')
        if entry in templated and not any(
            owner.controller and owner.uid == pod.metadata.uid for owner in claim.metadata.owner_references
        ):
            where = f"ResourceClaim {namespace}/{name}"
            raise ClaimUnusable(call, f"{where} was not created for pod {namespace}/{pod.metadata.name}")
        if len(claim.status.reserved_for) >= RESERVED_LIMIT and not reserved(claim, pod):
            raise ClaimUnusable(call, "resourceclaim in use")
        found[claim.metadata.uid] = claim
    return list(found.values())


def reserved(claim: ResourceClaim, pod: Pod) -> bool:
    """Tell whether the pod may use the claim already."""
    return any(user.uid == pod.metadata.uid for user in claim.status.reserved_for)


def sole_user(claim: ResourceClaim, pod: Pod) -> bool:
    """Tell whether nobody but the pod may use the claim."""
    return all(user.uid == pod.metadata.uid for user in claim.status.reserved_for)


def reservation(pod: Pod) -> ResourceClaimConsumerReference:
    """Return the entry for `status.reservedFor`."""
    return ResourceClaimConsumerReference(resource="pods", name=pod.metadata.name, uid=pod.metadata.uid)


def usable_on(claim: ResourceClaim, node: Node) -> bool:
    """Tell whether the allocation of a claim can be used on a node.

    Raises:
        InvalidNodeSelector: the allocation selects nodes in a way that no API server would have let through.

    """
    allocation = claim.status.allocation
    if allocation is None or allocation.node_selector is None:
        return True
    selector = compile_selector(allocation.node_selector, f"claim {claim.metadata.namespace}/{claim.metadata.name}")
    return selector.matches(node.metadata.name, node.metadata.labels)


class Judgement:
    """Where the devices of a claim stand.

    Attributes:
        ready: every binding condition is true.
        failure: a failure condition that is true, or the time that ran out.

    """

    __slots__ = ("failure", "ready")

    def __init__(self, *, ready: bool, failure: BindingFailed | None) -> None:
        self.ready = ready
        self.failure = failure


def waits(claim: ResourceClaim) -> bool:
    """Tell whether the allocation has conditions that must be met before the pod may start."""
    allocation = claim.status.allocation
    return allocation is not None and any(result.binding_conditions for result in allocation.devices.results)


def judge(claim: ResourceClaim, now: dt.datetime, timeout: float) -> Judgement:
    """Say whether a pod with this allocated claim can be bound.

    Unlike upstream, the share counts, too: of two shares of one device each has to be ready.

    Args:
        claim: the claim.
        now: the time.
        timeout: seconds after the allocation until which all conditions must be true.

    """
    allocation = claim.status.allocation
    if allocation is None or not waits(claim):
        return Judgement(ready=allocation is not None, failure=None)
    states = {_identity(status): status for status in claim.status.devices}
    ready = True
    for result in allocation.devices.results:
        state = states.get(_identity(result))
        told: Mapping[str, Condition] = {} if state is None else {item.type: item for item in state.conditions}
        for type_ in result.binding_failure_conditions:
            condition = told.get(type_)
            if condition is not None and condition.status == "True":
                failure = BindingFailed(claim.metadata.name, condition.reason, condition.message)
                return Judgement(ready=False, failure=failure)
        ready = ready and all(type_ in told and told[type_].status == "True" for type_ in result.binding_conditions)
    if not ready and _age(allocation.allocation_timestamp, now) >= timeout:
        text = f"binding conditions were not met within {timeout:g}s"
        return Judgement(ready=False, failure=BindingFailed(claim.metadata.name, "Timeout", text))
    return Judgement(ready=ready, failure=None)


def _age(stamp: str | None, now: dt.datetime) -> float:
    return 0.0 if stamp is None else (now - dt.datetime.fromisoformat(stamp)).total_seconds()


def _identity(item: DeviceRequestAllocationResult | AllocatedDeviceStatus) -> tuple[str, str, str, str | None]:
    return item.driver, item.pool, item.device, item.share_id
