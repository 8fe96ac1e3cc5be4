# SPDX-License-Identifier: Apache-2.0
"""Decisions: which devices of which node does a pod get?

The allocator joins the parts: claims are compiled, nodes that cannot fit are ruled out by the index, and the search
runs on those that are left, one after the other. It decides and never changes the inventory; a caller that goes through
with a decision enters the allocated claims there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import msgspec

from dynamic_memory.allocation.demand import Demand, compile_demand
from dynamic_memory.allocation.errors import NodeAllocationError
from dynamic_memory.allocation.explain import explain_node
from dynamic_memory.allocation.index import Index
from dynamic_memory.allocation.inventory import Inventory
from dynamic_memory.allocation.matching import Matcher, Selectors
from dynamic_memory.allocation.policies import Policy, device_order, score
from dynamic_memory.allocation.reporters import Reporter
from dynamic_memory.allocation.results import allocation_result
from dynamic_memory.allocation.search import Search
from dynamic_memory.api import resource
from dynamic_memory.errors import InvalidInput

__all__ = ["Allocator", "Placement", "Plan", "Provider"]

_PROBES = 8
"""Nodes that are searched before an index is made for a need that was never seen."""


class Provider(Selectors, Protocol):
    """What the allocator asks of its host: expressions, and identities of shares."""

    def share_id(self) -> str:
        """Return a new UUID."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """A decision: the node, and what to write into the status of each claim."""

    node: str
    allocations: list[resource.AllocationResult]
    score: int = 0


class Plan:
    """Compiled claims; good until the inventory changes."""

    def __init__(self, allocator: Allocator, demand: Demand) -> None:
        self._allocator = allocator
        self._demand = demand

    def possible(self) -> int:
        """Return the nodes that are not ruled out, as bits by their positions in the inventory."""
        return self._allocator._possible(self._demand)  # noqa: SLF001 - a plan is a part of its allocator

    def allocate(self, node: str) -> list[resource.AllocationResult] | None:
        """Allocate the claims for one node; raises as `Allocator.allocate` does."""
        self._allocator._check(node)  # noqa: SLF001 - the same
        placement = self._allocator._search(self._demand, node, None)  # noqa: SLF001 - the same
        return None if placement is None else placement.allocations


class Allocator:
    """Makes decisions over one inventory.

    Args:
        inventory: what there is; the caller keeps it up to date.
        provider: expressions and share identities.
        policy: what to prefer.

    """

    def __init__(self, inventory: Inventory, provider: Provider, policy: Policy = Policy.FIRST) -> None:
        self._inventory = inventory
        self._provider = provider
        self._policy = policy
        self._order = device_order(policy)
        features = inventory.features
        self._matcher = Matcher(provider, fractional=features.fractional_capacity_range)
        self._index = Index(inventory)

    def allocate(
        self, claims: Sequence[resource.ResourceClaim], node: str, *, reporter: Reporter | None = None
    ) -> list[resource.AllocationResult] | None:
        """Allocate claims for one node; None if they do not fit.

        Raises:
            FatalAllocationError: the claims cannot be handled, on any node.
            NodeAllocationError: the node has a problem that explains why nothing fits.
            InvalidInput: the node is unknown, or a quantity is none.

        """
        self._check(node)
        placement = self._search(self._compile(claims), node, reporter)
        return None if placement is None else placement.allocations

    def place(
        self,
        claims: Sequence[resource.ResourceClaim],
        nodes: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
    ) -> Placement | None:
        """Choose a node and allocate the claims there; None if they fit nowhere.

        With the policy FIRST it is the first node, in the order given (or in which nodes were added), else the one with
        the best score.

        Raises:
            FatalAllocationError: the claims cannot be handled; as by the scheduler, only found if a node is reached
                before which none fits.
            InvalidInput: a node is unknown, or a quantity is none.

        """
        if self._policy is not Policy.FIRST:
            return max(self.rank(claims, nodes, reporter=reporter), key=lambda found: found.score, default=None)
        return next(self._fitting(self._compile(claims), nodes, reporter), None)

    def rank(
        self,
        claims: Sequence[resource.ResourceClaim],
        nodes: Sequence[str] | None = None,
        *,
        reporter: Reporter | None = None,
    ) -> list[Placement]:
        """Allocate the claims on every node where they fit, best score first; ties keep the order of nodes.

        Raises:
            FatalAllocationError: the claims cannot be handled.
            InvalidInput: a node is unknown, or a quantity is none.

        """
        found = list(self._fitting(self._compile(claims), nodes, reporter))
        return sorted(found, key=lambda placement: -placement.score)

    def plan(self, claims: Sequence[resource.ResourceClaim]) -> Plan:
        """Compile claims once, for a caller that has its own order of nodes and wants to ask about some of them.

        Raises:
            FatalAllocationError: the claims cannot be handled by themselves.

        """
        return Plan(self, self._compile(claims))

    def explain(self, claims: Sequence[resource.ResourceClaim], nodes: Sequence[str] | None = None) -> dict[str, str]:
        """Say for each node where the claims do not fit what is the first thing that is not met.

        Raises:
            FatalAllocationError: the claims cannot be handled by themselves; what a single node brings up is an answer.
            InvalidInput: a node is unknown, or a quantity is none.

        """
        demand = self._compile(claims)
        answers = {}
        for node in self._all(nodes):
            text = explain_node(self._inventory, self._matcher, demand, node)
            if text is not None:
                answers[node] = text
        return answers

    def _compile(self, claims: Sequence[resource.ResourceClaim]) -> Demand:
        return compile_demand(claims, self._inventory.device_class, self._matcher, self._inventory.features)

    def _check(self, node: str) -> None:
        if self._inventory.position(node) is None:
            raise InvalidInput("node", "a node of the inventory", node)

    def _all(self, nodes: Sequence[str] | None) -> list[str]:
        if nodes is None:
            return list(self._inventory.node_names())
        for node in nodes:
            self._check(node)
        return list(nodes)

    def _fitting(self, demand: Demand, nodes: Sequence[str] | None, reporter: Reporter | None) -> Iterator[Placement]:
        for node in self._left(demand, nodes):
            try:
                placement = self._search(demand, node, reporter)
            except NodeAllocationError:
                continue
            if placement is not None:
                yield placement

    def _left(self, demand: Demand, nodes: Sequence[str] | None) -> Iterator[str]:
        """Yield the nodes that are not ruled out, in order.

        The first few are tried without the index if that would have to be made: most pods fit soon.
        """
        probes = 0 if self._index.covers(demand) or not demand.filterable else _PROBES
        if nodes is None:
            yield from self._left_of_all(demand, probes)
            return
        for node in nodes:
            self._check(node)
        yield from nodes[:probes]
        possible = self._possible(demand) if len(nodes) > probes else 0
        for node in nodes[probes:]:
            position = self._inventory.position(node)
            if position is not None and possible >> position & 1:
                yield node

    def _left_of_all(self, demand: Demand, probes: int) -> Iterator[str]:
        inventory = self._inventory
        for start in range(min(probes, inventory.positions)):
            node = inventory.at(start)
            if node is not None:
                yield node
        if inventory.positions <= probes:
            return
        left = self._possible(demand) >> probes << probes
        while left:
            lowest = left & -left
            left ^= lowest
            node = inventory.at(lowest.bit_length() - 1)
            if node is not None:
                yield node

    def _possible(self, demand: Demand) -> int:
        every = (1 << self._inventory.positions) - 1
        possible = self._index.possible(demand)
        return every if possible is None else possible & every

    def _search(self, demand: Demand, node: str, reporter: Reporter | None) -> Placement | None:
        inventory = self._inventory
        search = Search(
            inventory.view(node), demand, self._matcher, inventory.features, reporter=reporter, order=self._order
        )
        solution = search.run()
        if solution is None:
            return None
        new_share_id: Callable[[], str] = self._provider.share_id
        allocations = [
            allocation_result(
                claim,
                {request: want for (own, request), want in search.selected.items() if own == index},
                solution[index],
                node=node,
                features=inventory.features,
                new_share_id=new_share_id,
            )
            for index, claim in enumerate(demand.claims)
        ]
        points = score(self._policy, demand, list(search.selected.values()), solution)
        return Placement(node=node, allocations=allocations, score=points)
