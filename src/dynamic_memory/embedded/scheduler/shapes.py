# SPDX-License-Identifier: Apache-2.0
"""Which nodes fit pods of one shape, best first.

Pods of a workload want the same of a node. Their common shape keeps for every node whether it fits and how well, and
follows the journal of the nodes: after one pod is placed, one node is looked at again. What is looked at, in the order
and in the words of the scheduler of Kubernetes: cordons, the node's name, taints, selector and affinity, resources.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, OrderedDict
from collections.abc import Generator
from typing import NamedTuple

import msgspec

from dynamic_memory.allocation.node_selectors import CompiledSelector, compile_selector
from dynamic_memory.api.core import Taint
from dynamic_memory.embedded.scheduler.nodes import NodeInfo, NodeTable
from dynamic_memory.embedded.scheduler.requests import Amounts, nonzero, pod_requests
from dynamic_memory.embedded.scheduler.taints import untolerated
from dynamic_memory.embedded.scheduler.types import Pod

__all__ = ["NODES", "RESOURCES", "Reasons", "Shape", "Shapes", "Verdict"]

RESOURCES = "resources"
"""What can help a pod that lacks resources: pods that end, nodes that grow."""
NODES = "nodes"
"""What can help a pod that no node is right for: new nodes, other labels and taints."""

_SHAPES_KEPT = 256
_FEW = 48
_HARD = frozenset({"NoSchedule", "NoExecute"})
_CORDON = Taint(key="node.kubernetes.io/unschedulable", effect="NoSchedule")
_PERCENT = 100


class Verdict(NamedTuple):
    """Why a node does not fit: the reasons, as in the event, what could change that, and whether fewer pods would."""

    reasons: tuple[str, ...]
    helps: str
    crowded: bool = False


class Reasons(NamedTuple):
    """How many nodes do not fit for which reason, what could help, and how many nodes only have too many pods."""

    counts: Counter[str]
    helps: set[str]
    crowded: int


_CORDONED = Verdict(("node(s) were unschedulable",), NODES)
_TAINTED = Verdict(("node(s) had untolerated taint(s)",), NODES)
_ELSEWHERE = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
_UNSELECTED = Verdict(("node(s) didn't match Pod's node affinity/selector",), NODES)


class Shape:
    """What pods want of a node, and how the nodes stand to it.

    Args:
        pod: one of these pods.
        table: the nodes.
        serial: tells shapes apart.

    """

    def __init__(self, pod: Pod, table: NodeTable, serial: int = 0) -> None:
        self.serial = serial
        self.requests: Amounts = pod_requests(pod)
        self._cpu, self._memory = nonzero(pod)
        self._tolerations = pod.spec.tolerations
        self._selector = sorted(pod.spec.node_selector.items())
        self._affinity = _affinity(pod)
        self._pinned = _pinned(pod)
        self._table = table
        self._seen: int | None = None
        self._scores: dict[int, int] = {}
        self._verdicts: dict[int, Verdict] = {}
        self._heap: list[tuple[int, str, int]] = []

    def follow(self) -> None:
        """Look again at the nodes that changed."""
        end = self._table.journal.end
        if self._seen == end:
            return
        changed = None if self._seen is None else self._table.journal.since(self._seen)
        self._seen = end
        if changed is None:
            self._scores.clear()
            self._verdicts.clear()
            self._heap.clear()
            changed = {info.position for info in self._table.infos()}
        if self._pinned is not None:
            # A daemon's pod: one node is looked at, not all of them for each.
            info = self._table.get(self._pinned)
            changed = {*self._scores, *self._verdicts, *([] if info is None else [info.position])}
        for position in changed:
            self._look(position)
        if len(self._heap) > 4 * len(self._scores) + _FEW:
            self._heap = [
                (-score, info.node.metadata.name, position)
                for position, score in self._scores.items()
                if (info := self._table.at(position)) is not None
            ]
            heapq.heapify(self._heap)

    def best(self, allowed: int | None = None) -> Generator[NodeInfo]:
        """Yield the nodes that fit, best first, then by name.

        Args:
            allowed: only these nodes, as bits by position; None = all.

        """
        self.follow()
        if allowed is not None and allowed >= 0 and allowed.bit_count() <= _FEW:
            yield from self._few(allowed)
            return
        passed: list[tuple[int, str, int]] = []
        heap = self._heap
        last = None
        try:
            while heap:
                entry = heapq.heappop(heap)
                score, _, position = entry
                # Out of date, or twice in the heap after it changed to and fro.
                if self._scores.get(position) != -score or entry == last:
                    continue
                last = entry
                passed.append(entry)
                info = self._table.at(position)
                if info is not None and (allowed is None or allowed >> position & 1):
                    yield info
        finally:
            for entry in passed:
                heapq.heappush(heap, entry)

    def score(self, position: int) -> int:
        """Return how well a node that fits does, 0 to 100."""
        return self._scores[position]

    def fitting(self) -> set[int]:
        """Return the positions of all nodes that fit."""
        self.follow()
        return set(self._scores)

    def reasons(self) -> Reasons:
        """Say why nodes do not fit."""
        self.follow()
        counts: Counter[str] = Counter()
        crowded = 0
        for verdict, number in Counter(self._verdicts.values()).items():
            crowded += number if verdict.crowded else 0
            for reason in verdict.reasons:
                counts[reason] += number
        helps = {verdict.helps for verdict in self._verdicts.values()}
        if self._pinned is not None:
            others = len(self._table) - len(self._verdicts) - len(self._scores)
            counts += Counter({_ELSEWHERE: others})
        return Reasons(counts, helps, crowded)

    def _few(self, allowed: int) -> Generator[NodeInfo]:
        found = []
        while allowed:
            lowest = allowed & -allowed
            allowed ^= lowest
            position = lowest.bit_length() - 1
            score, info = self._scores.get(position), self._table.at(position)
            if score is not None and info is not None:
                found.append((-score, info.node.metadata.name, info))
        for *_, info in sorted(found, key=lambda entry: entry[:2]):
            yield info

    def _look(self, position: int) -> None:
        info = self._table.at(position)
        if info is None:
            self._scores.pop(position, None)
            self._verdicts.pop(position, None)
            return
        verdict = self._judge(info)
        if verdict is not None:
            self._scores.pop(position, None)
            self._verdicts[position] = verdict
            return
        self._verdicts.pop(position, None)
        score = self._rate(info)
        if self._scores.get(position) != score:
            self._scores[position] = score
            heapq.heappush(self._heap, (-score, info.node.metadata.name, position))

    def _judge(self, info: NodeInfo) -> Verdict | None:
        node = info.node
        if node.spec.unschedulable and untolerated([_CORDON], self._tolerations, _HARD) is not None:
            return _CORDONED
        if node.spec.taints and untolerated(node.spec.taints, self._tolerations, _HARD) is not None:
            return _TAINTED
        labels = node.metadata.labels
        if any(labels.get(key) != value for key, value in self._selector):
            return _UNSELECTED
        if self._affinity is not None and not self._affinity.matches(node.metadata.name, labels):
            return _UNSELECTED
        lacking = []
        if info.pods + 1 > info.allocatable.get("pods", 0):
            lacking.append("Too many pods")
        crowded = True
        for name, amount in self.requests.items():
            there = info.allocatable.get(name, 0)
            if amount > 0 and amount > there - info.requested.get(name, 0):
                lacking.append(f"Insufficient {name}")
                crowded = crowded and amount <= there
        return Verdict(tuple(lacking), RESOURCES, crowded) if lacking else None

    def _rate(self, info: NodeInfo) -> int:
        """Return how much would be left free, in percent, of cpu and memory on average (LeastAllocated)."""
        total = 0
        for capacity, taken in (
            (info.allocatable.get("cpu", 0), info.nonzero_cpu + self._cpu),
            (info.allocatable.get("memory", 0), info.nonzero_memory + self._memory),
        ):
            if capacity > 0 and taken < capacity:
                total += (capacity - taken) * _PERCENT // capacity
        return total // 2


class Shapes:
    """The shapes of pods seen lately."""

    def __init__(self, table: NodeTable) -> None:
        self._table = table
        self._known: OrderedDict[bytes, Shape] = OrderedDict()
        self._serials = itertools.count()

    def of(self, pod: Pod) -> Shape:
        """Return the shape of a pod.

        Raises:
            InvalidNodeSelector: the pod's affinity is invalid.
            InvalidInput: a request is no quantity.

        """
        spec = pod.spec
        key = msgspec.json.encode(
            (
                pod_requests(pod),
                nonzero(pod),
                spec.tolerations,
                spec.node_selector,
                spec.affinity,
            ),
            order="deterministic",
        )
        shape = self._known.get(key)
        if shape is None:
            shape = self._known[key] = Shape(pod, self._table, next(self._serials))
            if len(self._known) > _SHAPES_KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return shape


def _affinity(pod: Pod) -> CompiledSelector | None:
    affinity = pod.spec.affinity
    if affinity is None or affinity.node_affinity is None:
        return None
    required = affinity.node_affinity.required
    if required is None:
        return None
    return compile_selector(required, f"pod {pod.metadata.namespace}/{pod.metadata.name}")


def _pinned(pod: Pod) -> str | None:
    """Return the one node that the affinity of a daemon's pod names."""
    affinity = pod.spec.affinity
    required = None if affinity is None or affinity.node_affinity is None else affinity.node_affinity.required
    terms = [] if required is None else required.node_selector_terms
    if len(terms) != 1:
        return None
    for field in terms[0].match_fields:
        if field.key == "metadata.name" and field.operator == "In" and len(field.values) == 1:
            return field.values[0]
    return None
