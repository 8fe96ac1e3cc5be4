# SPDX-License-Identifier: Apache-2.0
"""Generation v0: everything is a capacity, CPU and memory too.

Nodes are tried in the order of the file. On a node the claims of the pod and of its containers are met one after the
other, each by the first resource that has all of it, of the first pool among those that score best; what one takes is
gone for the next. There is no way back: the result document tells of one pass, as it always did.

Topology constraints (which the original read and never obeyed) pin a scope (a claim, a container, the pod) to one place
of a type: the places are tried in the order in which they stand in the node, and a scope that only prefers a place is
tried without at last.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from dynamic_memory.allocation.prototype.amounts_v0 import CapacityResult, reduce_pool, take
from dynamic_memory.allocation.prototype.documents import Readable, read_documents
from dynamic_memory.allocation.prototype.expressions import Expressions
from dynamic_memory.allocation.prototype.inventory import Kind
from dynamic_memory.allocation.prototype.loader import convert
from dynamic_memory.allocation.prototype.types import Attribute
from dynamic_memory.allocation.prototype.types_v0 import (
    CapacityClaim,
    NodeResources,
    PodCapacityClaim,
    Resource,
    ResourceClaim,
    ResourcePool,
    TopologyConstraint,
)

__all__ = ["Evaluator", "NodeResult", "read_claim", "read_nodes", "summary"]

T = TypeVar("T")

NO_RESOURCES = "no resources in pool with sufficient capacity"
NO_POOL = "no pool found that can satisfy the claim"
Pins = Mapping[str, str]
"""Type of a topology to the name of the one place that may be used."""


class _Result(Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of the result document."""


class ResourceResult(_Result, frozen=True, kw_only=True):
    """What a resource could give."""

    resource_name: str
    score: int = 0
    failure_reason: str = ""
    capacity_results: list[CapacityResult] = []


class PoolResult(_Result, frozen=True, kw_only=True):
    """What came of the resources of a pool; `best` is an index, -1 if there is none."""

    pool_name: str
    best: int = -1
    failure_reason: str = ""
    resource_results: list[ResourceResult] = []

    @property
    def score(self) -> int:
        """That of the best resource."""
        return self.resource_results[self.best].score if self.best >= 0 else 0


class ResourceClaimResult(_Result, frozen=True, kw_only=True):
    """What came of the pools for one claim; `best` is an index, -1 if there is none."""

    claim_name: str
    best: int = -1
    failure_reason: str = ""
    pool_results: list[PoolResult] = []

    @property
    def score(self) -> int:
        """That of the best pool."""
        return self.pool_results[self.best].score if self.best >= 0 else 0


class CapacityClaimResult(_Result, frozen=True, kw_only=True):
    """What came of the claims of the pod itself, or of a container."""

    claim_name: str
    resource_claim_results: list[ResourceClaimResult] = []

    @property
    def score(self) -> int:
        """The mean of the claims, 0 if one failed; no claims are met by anything."""
        return _mean([result.score for result in self.resource_claim_results])


class NodeResult(_Result, frozen=True, kw_only=True):
    """What came of a pod on a node."""

    node_name: str
    capacity_claim_results: list[CapacityClaimResult] = []

    @property
    def score(self) -> int:
        """The mean of the claims, 0 if one failed."""
        return _mean([result.score for result in self.capacity_claim_results])


def _mean(scores: Sequence[int]) -> int:
    if not scores:
        return 100
    return 0 if 0 in scores else sum(scores) // len(scores)


def read_nodes(text: str | Readable, source: str) -> list[NodeResources]:
    """Read a list of nodes.

    Raises:
        DocumentError: something is wrong with it.

    """
    return [_converted(document, NodeResources) for document in read_documents(text, source)]


def read_claim(text: str | Readable, source: str) -> PodCapacityClaim:
    """Read what a pod asks for.

    Raises:
        DocumentError: something is wrong with it.

    """
    documents = list(read_documents(text, source))
    if len(documents) != 1:
        from dynamic_memory.allocation.prototype.errors import DocumentError  # noqa: PLC0415 - only for this error

        raise DocumentError(source, len(documents), "", "one PodCapacityClaim", f"{len(documents)} objects")
    return _converted(documents[0], PodCapacityClaim)


def _converted(document: Any, type_: type[T]) -> T:
    try:
        return convert(document.body, type_)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `$")
        raise document.error(place.strip(".`") or "it", problem.removeprefix("Expected ")) from error


class Evaluator:
    """Evaluates nodes for one pod; nodes are not changed by it."""

    def __init__(self, claim: PodCapacityClaim) -> None:
        self._claim = claim
        self._expressions = Expressions()
        self._kinds: dict[Any, Kind] = {}

    def evaluate(self, nodes: Sequence[NodeResources]) -> tuple[list[NodeResult], NodeResult | None]:
        """Return what came of every node, and the best: the first of those with the highest score.

        Raises:
            ExpressionError: a constraint is wrong in itself.

        """
        results = [self.on_node(node) for node in nodes]
        best = max(results, key=lambda result: result.score, default=None)
        return results, best if best is not None and best.score else None

    def on_node(self, node: NodeResources) -> NodeResult:
        """Return what comes of the pod on one node.

        Raises:
            ExpressionError: a constraint is wrong in itself.

        """
        return _pinned(self._claim.topologies, node, {}, lambda pins: self._on_node(node, pins))

    def _on_node(self, node: NodeResources, pins: Pins) -> NodeResult:
        results = []
        for claim in (self._claim.pod_claim, *self._claim.container_claims):
            left = node

            def attempt(inner: Pins, claim: CapacityClaim = claim, left: NodeResources = left) -> CapacityClaimResult:
                return self._capacity_claim(claim, left, inner)

            result = _pinned(claim.topologies, node, pins, attempt)
            results.append(result)
            for part in result.resource_claim_results:
                node = _reduced(node, part)
        return NodeResult(node_name=node.name, capacity_claim_results=results)

    def _capacity_claim(self, claim: CapacityClaim, node: NodeResources, pins: Pins) -> CapacityClaimResult:
        results = []
        for part in claim.claims:
            left = node

            def attempt(inner: Pins, part: ResourceClaim = part, left: NodeResources = left) -> ResourceClaimResult:
                return self._resource_claim(part, left, inner)

            result = _pinned(part.topologies, node, pins, attempt)
            results.append(result)
            node = _reduced(node, result)
        return CapacityClaimResult(claim_name=claim.name, resource_claim_results=results)

    def _resource_claim(self, claim: ResourceClaim, node: NodeResources, pins: Pins) -> ResourceClaimResult:
        pools = [self._pool(claim, pool, pins) for pool in node.pools]
        best = _best([pool.score for pool in pools])
        return ResourceClaimResult(
            claim_name=claim.name, best=best, failure_reason="" if best >= 0 else NO_POOL, pool_results=pools
        )

    def _pool(self, claim: ResourceClaim, pool: ResourcePool, pins: Pins) -> PoolResult:
        if claim.driver and claim.driver != pool.driver:
            reason = f'pool driver "{pool.driver}" mismatch claim driver "{claim.driver}"'
            return PoolResult(pool_name=pool.name, failure_reason=reason)
        resources = [self._resource(claim, pool, resource, pins) for resource in pool.resources]
        best = _best([resource.score for resource in resources])
        return PoolResult(
            pool_name=pool.name,
            best=best,
            failure_reason="" if best >= 0 else NO_RESOURCES,
            resource_results=resources,
        )

    def _resource(self, claim: ResourceClaim, pool: ResourcePool, resource: Resource, pins: Pins) -> ResourceResult:
        where = f"resource claim {claim.name}: constraints"
        answer = self._expressions.matches(claim.constraints, self._kind(pool, resource), where)
        if answer is not True:
            told = f"error evaluating against constraints: {answer}" if answer else "does not meet constraints"
            return ResourceResult(resource_name=resource.name, failure_reason=told)
        taken: list[CapacityResult] = []
        for request in claim.capacities:
            entries = [
                capacity
                for capacity in resource.capacities
                if capacity.name == request.capacity
                and all(pins.get(topology.type, topology.name) == topology.name for topology in capacity.topologies)
            ]
            found = take(request, resource.name, entries)
            if isinstance(found, str):
                return ResourceResult(resource_name=resource.name, failure_reason=found)
            taken.extend(found)
            pool = reduce_pool(pool, resource.name, found)
            resource = next(entry for entry in pool.resources if entry.name == resource.name)
        return ResourceResult(resource_name=resource.name, score=100, capacity_results=taken)

    def _kind(self, pool: ResourcePool, resource: Resource) -> Kind:
        """The attributes of a resource; its own win over those of the pool."""
        attributes: Sequence[Attribute] = (*pool.attributes, *resource.attributes)
        values = {attribute.name: attribute.value for attribute in attributes}
        key = frozenset(values.items())
        if key not in self._kinds:
            self._kinds[key] = Kind(len(self._kinds), values)
        return self._kinds[key]


def _best(scores: Sequence[int]) -> int:
    """Return the index of the first of the highest scores; -1 if there is none above 0."""
    highest = max(scores, default=0)
    return scores.index(highest) if highest else -1


def _reduced(node: NodeResources, result: ResourceClaimResult) -> NodeResources:
    if result.best < 0:
        return node
    pools = list(node.pools)
    chosen = result.pool_results[result.best]
    resource = chosen.resource_results[chosen.best]
    pools[result.best] = reduce_pool(pools[result.best], resource.resource_name, resource.capacity_results)
    return structs.replace(node, pools=pools)


# --- topologies

R = TypeVar("R", NodeResult, CapacityClaimResult, ResourceClaimResult)


def _pinned(
    constraints: Sequence[TopologyConstraint], node: NodeResources, pins: Pins, attempt: Callable[[Pins], R]
) -> R:
    """Try a scope with each place it may be pinned to; return the first result that works, or the last one."""
    result = None
    for choice in _choices(constraints, node, pins):
        result = attempt({**pins, **choice})
        if result.score:
            return result
    return attempt(pins) if result is None else result


def _choices(constraints: Sequence[TopologyConstraint], node: NodeResources, pins: Pins) -> Iterator[dict[str, str]]:
    """Yield what a scope may be pinned to; a type that an outer scope has pinned stays as it is."""
    options: list[list[tuple[str, str] | None]] = []
    for constraint in constraints:
        if constraint.type in pins:
            continue
        places: list[tuple[str, str] | None] = [(constraint.type, name) for name in _places(node, constraint.type)]
        if constraint.policy == "prefer" or not places:
            places.append(None)
        options.append(places)
    for combination in itertools.product(*options):
        yield dict(place for place in combination if place is not None)


def _places(node: NodeResources, type_: str) -> list[str]:
    return list(
        dict.fromkeys(
            topology.name
            for pool in node.pools
            for resource in pool.resources
            for capacity in resource.capacities
            for topology in capacity.topologies
            if topology.type == type_
        )
    )


# --- words


def summary(result: NodeResult) -> str:
    """Return the result in words, one line a level."""
    lines = [f'node "{result.node_name}" ({result.score}): {_word(result.score)}']
    for claim in result.capacity_claim_results:
        lines.append(f'- capacity claim "{claim.claim_name}" ({claim.score}): {_word(claim.score)}')
        for part in claim.resource_claim_results:
            told = "succeeded" if part.best >= 0 else part.failure_reason
            lines.append(f'  - resource claim "{part.claim_name}" ({part.score}): {told}')
            for number, pool in enumerate(part.pool_results):
                told = "best" if number == part.best else "succeeded" if pool.best >= 0 else pool.failure_reason
                lines.append(f'    - pool "{pool.pool_name}" ({pool.score}): {told}')
                for index, resource in enumerate(pool.resource_results):
                    told = "best" if index == pool.best else "success" if resource.score else resource.failure_reason
                    lines.append(f'      - resource "{resource.resource_name}" ({resource.score}): {told}')
    return "\n".join(lines)


def _word(score: int) -> str:
    return "succeeded" if score else "failed"
