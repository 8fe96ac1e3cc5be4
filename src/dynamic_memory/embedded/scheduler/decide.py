# SPDX-License-Identifier: Apache-2.0
"""Decisions: the best node that fits a pod, and the devices that its claims get there.

A decision is made at once, over state in memory; it neither writes nor waits. The words for what does not fit are those
of the scheduler of Kubernetes.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec

from dynamic_memory.allocation import Allocator, NodeAllocationError, Plan
from dynamic_memory.api.resource import AllocationResult, ResourceClaim
from dynamic_memory.embedded.scheduler.claims import DEVICES, call_of
from dynamic_memory.embedded.scheduler.nodes import NodeInfo
from dynamic_memory.embedded.scheduler.podclaims import BindingFailed, ClaimUnusable, pod_claims, usable_on
from dynamic_memory.embedded.scheduler.shapes import NODES, Shape, Shapes
from dynamic_memory.embedded.scheduler.types import Pod
from dynamic_memory.embedded.scheduler.world import ANYTHING, World, call_of_pod

__all__ = ["Decider", "Failure", "Question", "Success", "describe", "preemption"]

_HOPELESS_KEPT = 256
_LIST_LIMIT = 8
"""Most alternatives of a prioritized list (API)."""
_LIST_WEIGHT = 2
_PERCENT = 100
_NOT_ALLOCATABLE = "cannot allocate all claims"
_NOT_HERE = "resourceclaim not available on the node"


class Success(NamedTuple):
    """A node, and the new allocations."""

    node: str
    claims: list[ResourceClaim]
    allocations: dict[str, AllocationResult]


class Failure(NamedTuple):
    """No node: the sentences for people, what could help, and allocations of the pod that are in its way."""

    message: str
    preemption: str
    blockers: frozenset[str]
    in_the_way: list[ResourceClaim]

    def told(self, *, cleared: bool = False) -> str:
        """Return the message of the event; `cleared` = an allocation was given back."""
        done = " deallocation of ResourceClaim completed," if cleared else ""
        return f"{self.message}{done}{self.preemption}"


class Question(NamedTuple):
    """A pod, with what is needed to look for a node."""

    pod: Pod
    shape: Shape
    claims: list[ResourceClaim]
    wanting: list[ResourceClaim]
    allocated: list[ResourceClaim]


class _Hopeless(NamedTuple):
    """What was found not to fit anywhere, and the state of the world in which that was so."""

    state: tuple[int, ...]
    refused: Counter[str]


class Decider:
    """Makes decisions.

    Args:
        world: nodes and claims.
        allocator: over the world's inventory.
        failed: says why an allocated claim will not become ready, or None.

    """

    def __init__(
        self, world: World, allocator: Allocator, failed: Callable[[ResourceClaim], BindingFailed | None]
    ) -> None:
        self._world = world
        self._nodes = world.table
        self._shapes = Shapes(world.table)
        self._book = world.book
        self._allocator = allocator
        self._failed = failed
        self._class = world.inventory.device_class
        self._hopeless: dict[tuple[int, bytes], _Hopeless] = {}

    def ask(self, pod: Pod) -> Question:
        """Put together what is known of a pod.

        Raises:
            ClaimMissing: a claim of the pod is not there, or not usable.
            FatalAllocationError: claims or affinity are such that no node can be asked.
            InvalidInput: an amount is no quantity.

        """
        shape = self._shapes.of(pod)
        claims = pod_claims(pod, self._book.get)
        for claim in claims:
            if claim.metadata.uid in self._book.assumed:
                call = call_of(claim.metadata.namespace, claim.metadata.name)
                raise ClaimUnusable(
                    {call}, f"resource claim {claim.metadata.name} is in the process of being allocated"
                )
        wanting = [claim for claim in claims if claim.status.allocation is None]
        self._check_classes(wanting)
        allocated = [claim for claim in claims if claim.status.allocation is not None]
        return Question(pod, shape, claims, wanting, allocated)

    def _check_classes(self, claims: Sequence[ResourceClaim]) -> None:
        for claim in claims:
            for request in claim.spec.devices.requests:
                names = [option.device_class_name for option in request.first_available]
                if request.exactly is not None:
                    names.append(request.exactly.device_class_name)
                for name in names:
                    if self._class(name) is None:
                        call = call_of(claim.metadata.namespace, claim.metadata.name)
                        raise ClaimUnusable({call}, f"request {request.name}: device class {name} does not exist")

    def decide(self, question: Question, order: Sequence[str] | None = None) -> Success | Failure:
        """Find a node.

        Args:
            question: as of this moment.
            order: try these nodes only, in this order; None = all, best first.

        Raises:
            FatalAllocationError: an expression fails on a device, or the like.

        """
        refused: Counter[str] = Counter()
        stale = [claim for claim in question.allocated if self._failed(claim) is not None]
        if stale:
            refused[_NOT_HERE] = len(question.shape.fitting())
            return self._failure(question, refused, stale)
        # A release wakes everybody who waits for the same; only the first ones need looking.
        known = (question.shape.serial, _wants(question)) if order is None and not question.allocated else None
        state = (self._nodes.journal.end, self._book.changes, self._world.devices_changed)
        if known is not None and known in self._hopeless and self._hopeless[known].state == state:
            return self._failure(question, Counter(self._hopeless[known].refused), [])
        in_the_way: dict[str, ResourceClaim] = {}
        options: list[tuple[int, NodeInfo, Success]] = []
        selective = order is None and any(map(_has_list, question.wanting))
        plan = self._allocator.plan(question.wanting) if question.wanting else None
        allowed = None if plan is None else plan.possible()
        with contextlib.closing(question.shape.best(allowed)) as best:
            for info in best if order is None else self._named(question, order):
                elsewhere = [claim for claim in question.allocated if not usable_on(claim, info.node)]
                if elsewhere:
                    refused[_NOT_HERE] += 1
                    in_the_way |= {claim.metadata.uid: claim for claim in elsewhere}
                    continue
                found = _allocate(question, plan, info, refused)
                if found is not None and not selective:
                    return found
                if found is not None:
                    options.append((_preference(found), info, found))
        if options:
            return self._preferred(question, options)
        if known is not None:
            if len(self._hopeless) >= _HOPELESS_KEPT:
                self._hopeless.clear()
            self._hopeless[known] = _Hopeless(state, Counter(refused))
        return self._failure(question, refused, list(in_the_way.values()))

    def _preferred(self, question: Question, options: Sequence[tuple[int, NodeInfo, Success]]) -> Success:
        """Return the best of several nodes: early alternatives of prioritized lists count twice as much as room."""
        most = max(1, *(preference for preference, *_ in options))

        def worth(option: tuple[int, NodeInfo, Success]) -> int:
            preference, info, _ = option
            return question.shape.score(info.position) + _LIST_WEIGHT * (_PERCENT * preference // most)

        # Of equals max takes the first, and they come best first, by name.
        return max(options, key=worth)[2]

    def all_fitting(self, question: Question) -> list[str]:
        """Return every node that fits, best first: what an extender is asked about."""
        names = []
        plan = self._allocator.plan(question.wanting) if question.wanting else None
        allowed = None if plan is None else plan.possible()
        with contextlib.closing(question.shape.best(allowed)) as best:
            for info in best:
                here = all(usable_on(claim, info.node) for claim in question.allocated)
                if here and _allocate(question, plan, info, Counter()) is not None:
                    names.append(info.node.metadata.name)
        return names

    def score(self, question: Question, node: str) -> int:
        """Return how good a node that fits is."""
        info = self._nodes.get(node)
        return 0 if info is None else question.shape.score(info.position)

    def refused_by_extender(self, question: Question, reasons: Mapping[str, str]) -> Failure:
        """Return the failure of a pod whose last nodes an extender refused."""
        failure = self._failure(question, Counter(reasons.values()), [])
        return failure._replace(blockers=failure.blockers | {ANYTHING})

    def _named(self, question: Question, names: Sequence[str]) -> list[NodeInfo]:
        fitting = question.shape.fitting()
        found = (self._nodes.get(name) for name in names)
        return [info for info in found if info is not None and info.position in fitting]

    def _failure(self, question: Question, refused: Counter[str], in_the_way: list[ResourceClaim]) -> Failure:
        counts, helps, crowded = question.shape.reasons()
        rest = len(question.shape.fitting()) - sum(refused.values())
        if rest > 0 and question.wanting:
            refused[_NOT_ALLOCATABLE] += rest
        pod = question.pod
        blockers = {NODES, *helps, call_of_pod(pod.metadata.uid)}
        total = len(self._nodes)
        if question.claims:
            blockers.add(DEVICES)
            blockers |= {call_of(claim.metadata.namespace, claim.metadata.name) for claim in question.claims}
        return Failure(describe(total, counts + refused), preemption(total, crowded), frozenset(blockers), in_the_way)

    def unusable(self, pod: Pod, problem: ClaimUnusable) -> Failure:
        """Return the failure of a pod that no node can help, as it stands."""
        blockers = problem.calls | {call_of_pod(pod.metadata.uid), DEVICES}
        total = len(self._nodes)
        return Failure(f"0/{total} nodes are available: {problem.message}.", preemption(total, 0), blockers, [])


def _allocate(question: Question, plan: Plan | None, info: NodeInfo, refused: Counter[str]) -> Success | None:
    name = info.node.metadata.name
    if plan is None:
        return Success(name, question.claims, {})
    try:
        allocations = plan.allocate(name)
    except NodeAllocationError as error:
        refused[str(error)] += 1
        return None
    if allocations is None:
        return None
    pairs = zip(question.wanting, allocations, strict=True)
    return Success(name, question.claims, {claim.metadata.uid: allocation for claim, allocation in pairs})


def _has_list(claim: ResourceClaim) -> bool:
    return any(request.first_available for request in claim.spec.devices.requests)


def _preference(found: Success) -> int:
    """Return how early in their lists the taken alternatives are, as upstream: 8 for a first one."""
    total = 0
    for claim in found.claims:
        allocation = found.allocations.get(claim.metadata.uid)
        taken = set() if allocation is None else {result.request for result in allocation.devices.results}
        for request in claim.spec.devices.requests:
            for index, option in enumerate(request.first_available):
                if f"{request.name}/{option.name}" in taken:
                    total += _LIST_LIMIT - index
                    break
    return total


def _wants(question: Question) -> bytes:
    """Return what the claims ask for: equal for pods of one workload."""
    return msgspec.json.encode([claim.spec for claim in question.wanting], order="deterministic")


def describe(nodes: int, reasons: Mapping[str, int]) -> str:
    """Return the sentence about a pod that fits nowhere."""
    if not nodes:
        return "no nodes available to schedule pods"
    shown: Collection[str] = sorted(f"{number} {reason}" for reason, number in reasons.items() if number)
    return f"0/{nodes} nodes are available: {', '.join(shown)}."


def preemption(nodes: int, crowded: int) -> str:
    """Return what kube-scheduler adds about preemption: where it could not help, and where it finds no victims.

    Here there are never victims: pods are not preempted.
    """
    if not nodes:
        return ""
    parts = [
        f"{number} {text}"
        for number, text in (
            (crowded, "No preemption victims found for incoming pod"),
            (nodes - crowded, "Preemption is not helpful for scheduling"),
        )
        if number
    ]
    return f" preemption: 0/{nodes} nodes are available: {', '.join(parts)}."
