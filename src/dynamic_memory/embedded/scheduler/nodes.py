# SPDX-License-Identifier: Apache-2.0
"""What nodes have and what pods take of it, kept up to date one event at a time.

A pod counts from the moment it is assumed, before anything is written; what a watch reports later replaces that. The
journal lists the nodes that changed, so that what is derived from nodes follows without looking at all of them.
"""

from __future__ import annotations

from typing import NamedTuple

from dynamic_memory.allocation.inventory import Journal
from dynamic_memory.api import core
from dynamic_memory.embedded.scheduler.requests import Amounts, amounts, nonzero, pod_requests
from dynamic_memory.embedded.scheduler.types import Pod

__all__ = ["NodeInfo", "NodeTable"]


class _Held(NamedTuple):
    """What a pod takes of a node."""

    node: str
    requests: Amounts
    nonzero: tuple[int, int]


class NodeInfo:
    """A node and the sums of its pods."""

    __slots__ = ("allocatable", "node", "nonzero_cpu", "nonzero_memory", "pods", "position", "requested")

    def __init__(self, node: core.Node, position: int) -> None:
        self.node = node
        self.position = position
        self.allocatable = amounts(node.status.allocatable)
        self.requested: Amounts = {}
        self.nonzero_cpu = 0
        self.nonzero_memory = 0
        self.pods = 0

    def count(self, held: _Held, step: int) -> None:
        """Add a pod (step 1) or take it out (step -1)."""
        self.pods += step
        for name, amount in held.requests.items():
            self.requested[name] = self.requested.get(name, 0) + step * amount
        self.nonzero_cpu += step * held.nonzero[0]
        self.nonzero_memory += step * held.nonzero[1]


class NodeTable:
    """All nodes, by name and by position; positions are those of the inventory."""

    def __init__(self) -> None:
        self.journal = Journal()
        self._infos: dict[str, NodeInfo] = {}
        self._places: dict[int, NodeInfo] = {}
        self._held: dict[str, _Held] = {}
        self._by_node: dict[str, dict[str, _Held]] = {}

    def __len__(self) -> int:
        return len(self._infos)

    def infos(self) -> list[NodeInfo]:
        """Return all nodes, in no order that matters."""
        return list(self._infos.values())

    def get(self, name: str) -> NodeInfo | None:
        """Return a node by name."""
        return self._infos.get(name)

    def at(self, position: int) -> NodeInfo | None:
        """Return a node by position."""
        return self._places.get(position)

    def put_node(self, node: core.Node, position: int) -> None:
        """Add or replace a node.

        Raises:
            InvalidInput: an amount is no quantity; nothing is changed then.

        """
        name = node.metadata.name
        fresh = NodeInfo(node, position)
        self.remove_node(name)
        for held in self._by_node.get(name, {}).values():
            fresh.count(held, 1)
        self._infos[name] = self._places[position] = fresh
        self.journal.note(position)

    def remove_node(self, name: str) -> None:
        """Forget a node; its pods are events of their own."""
        info = self._infos.pop(name, None)
        if info is not None:
            del self._places[info.position]
            self.journal.note(info.position)

    def put_pod(self, pod: Pod, node: str) -> bool:
        """Count a pod on a node, or count it anew; tell whether it takes less than before.

        Raises:
            InvalidInput: a request is no quantity; nothing is changed then.

        """
        held = _Held(node, pod_requests(pod), nonzero(pod))
        old = self._held.get(pod.metadata.uid)
        if old == held:
            return False
        self.remove_pod(pod.metadata.uid)
        self._held[pod.metadata.uid] = held
        self._by_node.setdefault(node, {})[pod.metadata.uid] = held
        self._count(held, 1)
        if old is None:
            return False
        return any(amount > held.requests.get(name, 0) for name, amount in old.requests.items())

    def remove_pod(self, uid: str) -> bool:
        """Forget a pod; tell whether it was there."""
        held = self._held.pop(uid, None)
        if held is None:
            return False
        own = self._by_node[held.node]
        del own[uid]
        if not own:
            del self._by_node[held.node]
        self._count(held, -1)
        return True

    def snapshot(self) -> dict[str, object]:
        """Return the state in plain types, equal for tables that got the same objects by other ways."""
        return {
            name: (info.pods, {key: value for key, value in sorted(info.requested.items()) if value}, info.allocatable)
            for name, info in sorted(self._infos.items())
        }

    def _count(self, held: _Held, step: int) -> None:
        info = self._infos.get(held.node)
        if info is not None:
            info.count(held, step)
            self.journal.note(info.position)
