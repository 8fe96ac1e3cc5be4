# SPDX-License-Identifier: Apache-2.0
"""What a claim takes of the node's own memory: its grants, or the sentence why it is refused; and who may use it.

Memory is anonymous: two that share a claim could not be told apart, and nobody would know whose bytes are whose. So a
claim belongs to one pod, and each of its requests to one container at a time. Containers that never run together may
follow one another: an init container may fill what an app container then uses. Containers that name different requests
of one claim do not share anything. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dynamic_memory.api import names
from dynamic_memory.api.core import Container, Pod
from dynamic_memory.api.resource import DeviceRequestAllocationResult, ResourceClaim
from dynamic_memory.driver import claim_config
from dynamic_memory.driver.claims import RefusedClaim, our_results
from dynamic_memory.driver.grants import Grant, Mode, Owner
from dynamic_memory.driver.local_devices import LocalDevice
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity, format_bytes

__all__ = ["check_other_claims", "check_paths", "grants_of", "local_results", "owner_of"]

POD_CLAIM_NAME = "resource.kubernetes.io/pod-claim-name"
SIDECAR = "Always"
Claimed = tuple[str, Owner, Sequence[Grant]]
"""A claim for people, its pod, and what it was given."""


def local_results(claim: ResourceClaim, node: str) -> list[DeviceRequestAllocationResult]:
    """Return the allocated devices of the claim that are this node's own memory."""
    return [result for result in our_results(claim) if result.pool == names.memory_pool(node)]


def grants_of(
    claim: ResourceClaim, node: str, devices: Mapping[str, LocalDevice], default: Mode = Mode.LIMIT
) -> tuple[Grant, ...]:
    """Return what the claim takes of this node's own memory.

    Args:
        claim: an allocated claim.
        node: name of the node.
        devices: what the machine has, by name.
        default: the mode of a claim that does not choose.

    Raises:
        RefusedClaim: it asks in a way that this driver does not serve.

    """
    configs = claim.status.allocation.devices.config if claim.status.allocation else []
    found = []
    for result in local_results(claim, node):
        device = devices.get(result.device)
        if device is None:
            known = ", ".join(devices) or "none"
            raise RefusedClaim(f"device {result.device} of pool {result.pool} is not one of this node's ({known})")
        if result.admin_access:
            raise RefusedClaim(f"request {result.request} asks for adminAccess, which memory does not have")
        try:
            config = claim_config.resolve(configs, result.request, default)
        except InvalidInput as error:
            raise RefusedClaim(f"request {result.request}: {error}") from error
        found.append(
            Grant(
                request=result.request.partition("/")[0],
                pool=result.pool,
                device=result.device,
                share_id=result.share_id or "",
                size=_size(result, device),
                numa=device.numa,
                page=device.page,
                mode=config.mode,
                path=config.path,
            )
        )
    check_paths(found)
    return tuple(found)


def owner_of(pod: Pod, claim: ResourceClaim) -> Owner:
    """Return the pod as the owner of a claim, with the containers that refer to it.

    Raises:
        RefusedClaim: two containers that run at the same time refer to the same request.

    """
    meta = claim.metadata
    made = {s.name for s in pod.status.resource_claim_statuses if s.resource_claim_name == meta.name}
    mine = {entry.name for entry in pod.spec.resource_claims if entry.resource_claim_name == meta.name} | made
    annotated = meta.annotations.get(POD_CLAIM_NAME)
    if annotated and any(reference.uid == pod.metadata.uid for reference in meta.owner_references):
        mine.add(annotated)
    uses = [
        (container.name, phase, ref.request)
        for container, phase in _phases(pod)
        for ref in container.resources.claims
        if ref.name in mine
    ]
    for index, (one, when, request) in enumerate(uses):
        for other, then, wanted in uses[index + 1 :]:
            same = request == wanted or not request or not wanted
            if one != other and same and _together(when, then):
                what = f"request {request or wanted}" if request or wanted else "all of it"
                raise RefusedClaim(
                    f"containers {one} and {other} of pod {pod.metadata.name} would share {what} of claim "
                    f"{meta.namespace}/{meta.name}: give each a claim, or a request, of its own"
                )
    containers: dict[str, tuple[str, ...]] = {}
    for name, _, request in uses:
        containers[request] = tuple(dict.fromkeys((*containers.get(request, ()), name)))
    return Owner(name=pod.metadata.name, uid=pod.metadata.uid, containers=containers)


def _phases(pod: Pod) -> list[tuple[Container, tuple[float, float]]]:
    """Containers with the time they run: an init container its own turn, a sidecar from its turn on, the rest last."""
    inits = pod.spec.init_containers
    last = float(len(inits))
    found: list[tuple[Container, tuple[float, float]]] = []
    for turn, container in enumerate(inits):
        end = last if container.restart_policy == SIDECAR else float(turn)
        found.append((container, (float(turn), end)))
    return found + [(container, (last, last)) for container in pod.spec.containers]


def _together(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _size(result: DeviceRequestAllocationResult, device: LocalDevice) -> int:
    text = result.consumed_capacity.get(names.CAPACITY_SIZE)
    if text is None:
        raise RefusedClaim(f"request {result.request} was allocated without the capacity {names.CAPACITY_SIZE!r}")
    try:
        amount = Quantity.parse(text)
    except InvalidInput as error:
        raise RefusedClaim(f"request {result.request}: {error}") from error
    size = amount.value()
    if size <= 0 or amount != size:
        raise RefusedClaim(f"request {result.request} was allocated {text} bytes: a whole number above 0 is needed")
    if size % device.unit:
        raise RefusedClaim(
            f"request {result.request} was allocated {text} bytes, which is no multiple of a page of "
            f"{format_bytes(device.unit)}"
        )
    return size


def check_paths(grants: Sequence[Grant]) -> None:
    """Refuse two file systems at one path.

    Raises:
        RefusedClaim: of two requests, which one container may have, or of two sizes of pages.

    """
    seen: dict[str, Grant] = {}
    for grant in grants:
        if not grant.path:
            continue
        first = seen.setdefault(grant.path, grant)
        if first.request != grant.request:
            raise RefusedClaim(f"requests {first.request} and {grant.request} both want {grant.path}")
        if first.page != grant.page:
            raise RefusedClaim(
                f"request {grant.request}: devices {first.device} and {grant.device} have pages of different sizes, "
                f"which cannot be one file system ({grant.path})"
            )


def check_other_claims(one: str, owner: Owner, grants: Sequence[Grant], others: Iterable[Claimed]) -> None:
    """Refuse a file system that would hide that of another claim, or be hidden by it.

    Args:
        one: the claim, for people.
        owner: its pod.
        grants: what it is given.
        others: the claims that the pod has besides.

    Raises:
        RefusedClaim: a container would have two at one path.

    """
    mine = _mounts(owner, grants)
    for other, other_owner, other_grants in others:
        for container, path in sorted(mine & _mounts(other_owner, other_grants)):
            raise RefusedClaim(
                f"claims {other} and {one} of container {container} both want {path}: give one of them another path"
            )


def _mounts(owner: Owner, grants: Sequence[Grant]) -> set[tuple[str, str]]:
    """Return the containers of a pod and the paths at which they have file systems."""
    return {
        (container, grant.path)
        for grant in grants
        if grant.path
        for request in ("", grant.request)
        for container in owner.containers.get(request, ())
    }
