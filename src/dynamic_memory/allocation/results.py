# SPDX-License-Identifier: Apache-2.0
"""From chosen devices to what is written into the status of a claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from dynamic_memory.allocation.demand import ClaimDemand, Want
from dynamic_memory.allocation.errors import InvalidNodeSelector
from dynamic_memory.allocation.features import Features
from dynamic_memory.allocation.search import Choice
from dynamic_memory.api import core, resource

__all__ = ["allocation_result"]


def allocation_result(
    claim: ClaimDemand,
    selected: Mapping[int, Want],
    choices: Sequence[Choice],
    *,
    node: str,
    features: Features,
    new_share_id: Callable[[], str],
) -> resource.AllocationResult:
    """Make the allocation of one claim.

    Args:
        claim: the claim, compiled.
        selected: for each request that is a prioritized list (by index), the alternative that was taken.
        choices: its devices, in order.
        node: the node they were chosen for.
        features: what is enabled.
        new_share_id: makes the identity of a share, a UUID.

    Raises:
        InvalidNodeSelector: a slice selects nodes in a way that cannot be merged into the result.

    """
    wants = [selected.get(index, request[0]) for index, request in enumerate(claim.requests)]
    results = [_device(choice, features, new_share_id) for choice in choices]
    return resource.AllocationResult(
        devices=resource.DeviceAllocationResult(results=results, config=_configuration(claim, wants)),
        node_selector=_node_selector(choices, node, features),
    )


def _device(
    choice: Choice, features: Features, new_share_id: Callable[[], str]
) -> resource.DeviceRequestAllocationResult:
    device, want = choice.device, choice.want
    binding = features.device_binding_and_status
    driver, pool, name = device.id
    return resource.DeviceRequestAllocationResult(
        request=want.full_name,
        driver=driver,
        pool=pool,
        device=name,
        admin_access=True if want.admin else None,
        tolerations=list(want.tolerations),
        binding_conditions=device.spec.binding_conditions if binding else [],
        binding_failure_conditions=device.spec.binding_failure_conditions if binding else [],
        share_id=new_share_id() if choice.amounts is not None else None,
        consumed_capacity={name: amount.text for name, amount in (choice.amounts or {}).items()},
        skip_node_operations=device.part.spec.skip_node_operations if features.variant == "experimental" else [],
    )


def _configuration(claim: ClaimDemand, wants: Sequence[Want]) -> list[resource.DeviceAllocationConfiguration]:
    """Collect the configuration of the classes, each class once, then that of the claim.

    What holds for all requests of the claim is written without their names.
    """
    found: list[resource.DeviceAllocationConfiguration] = []
    classes: dict[str, list[Want]] = {}
    for want in wants:
        classes.setdefault(want.class_.metadata.name, []).append(want)
    for members in classes.values():
        names = [want.full_name for want in members]
        requests = [] if _covers(frozenset(names), wants) else names
        found += (
            resource.DeviceAllocationConfiguration(source="FromClass", requests=requests, opaque=entry.opaque)
            for entry in members[0].class_.spec.config
        )
    for entry in claim.claim.spec.devices.config:
        meant = frozenset(entry.requests)
        if not any(want.named_in(meant) for want in wants) and meant:
            continue
        requests = [] if _covers(meant, wants) else entry.requests
        found.append(resource.DeviceAllocationConfiguration(source="FromClaim", requests=requests, opaque=entry.opaque))
    return found


def _covers(names: frozenset[str], wants: Sequence[Want]) -> bool:
    return all(want.named_in(names) for want in wants)


def _node_selector(choices: Sequence[Choice], node: str, features: Features) -> core.NodeSelector | None:
    """Tell where the devices can be used: everywhere (None), on the one node, or where all slices say."""
    expressions: list[core.NodeSelectorRequirement] = []
    fields: list[core.NodeSelectorRequirement] = []
    for choice in choices:
        device = choice.device
        place = device.spec if device.filter is not None else device.part.spec
        if place.node_name is not None or (device.spec.binds_to_node and features.variant != "stable"):
            own = core.NodeSelectorRequirement(key="metadata.name", operator="In", values=[node])
            return core.NodeSelector(node_selector_terms=[core.NodeSelectorTerm(match_fields=[own])])
        if place.node_selector is None:
            continue
        terms = place.node_selector.node_selector_terms
        if len(terms) > 1:
            raise InvalidNodeSelector(f"slice {device.part.name}", f"{len(terms)} terms, and only one is supported")
        for term in terms:
            _merge(fields, term.match_fields)
            _merge(expressions, term.match_expressions)
    if not expressions and not fields:
        return None
    return core.NodeSelector(
        node_selector_terms=[core.NodeSelectorTerm(match_expressions=expressions, match_fields=fields)]
    )


def _merge(into: list[core.NodeSelectorRequirement], more: Sequence[core.NodeSelectorRequirement]) -> None:
    known = {(own.key, own.operator, frozenset(own.values)) for own in into}
    for requirement in more:
        key = (requirement.key, requirement.operator, frozenset(requirement.values))
        if key not in known:
            known.add(key)
            into.append(requirement)
