# SPDX-License-Identifier: Apache-2.0
"""Labels each node with the fabric domain that its host can reach, which is what a pool's slices select nodes by.

A label is set by server-side apply under the controller's name. So it can be taken back later, also after a restart,
without ever touching a label that somebody else has set: only the server knows whose it is. Each apply names the uid of
the node, because without it the apply to a node that was just removed would create one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client import Gauge

from dynamic_memory.api import kinds, names
from dynamic_memory.api.core import Node
from dynamic_memory.controller.faultpoints import ROLE
from dynamic_memory.errors import DynamicMemoryError
from dynamic_memory.fabric.model import Capacity
from dynamic_memory.kube.errors import Conflict, NotFound
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process import clock, faults
from dynamic_memory.process.backoff import Backoff

__all__ = ["NodeLabels", "changes", "wanted_labels"]

log = logging.getLogger(__name__)

LABELLED = Gauge("dynamic_memory_controller_nodes_labelled", "Nodes with the label of a fabric domain.")
SETTLE = 0.2
RESYNC = 300.0


def wanted_labels(capacity: Capacity) -> dict[str, str]:
    """Return the domain of each node that the fabric has a host for."""
    return {host.node: host.domain for host in capacity.hosts}


def changes(nodes: Iterable[Node], wanted: Mapping[str, str]) -> dict[str, tuple[Node, str | None]]:
    """Return the nodes whose label differs, and what it should be; None to take it off. Pure."""
    found: dict[str, tuple[Node, str | None]] = {}
    for node in nodes:
        want = wanted.get(node.metadata.name)
        if node.metadata.labels.get(names.FABRIC_DOMAIN_LABEL) != want and node.metadata.deletion_timestamp is None:
            found[node.metadata.name] = (node, want)
    return found


class NodeLabels:
    """Keeps the labels right.

    Args:
        kube: API client.
        nodes: all nodes, from a cache.
        capacity: what the service says; None while it is not known.

    """

    def __init__(
        self, kube: Kube, *, nodes: Callable[[], Iterable[Node]], capacity: Callable[[], Capacity | None]
    ) -> None:
        self._kube = kube
        self._nodes = nodes
        self._capacity = capacity
        self._dirty = asyncio.Event()
        self._foreign: set[tuple[str, str]] = set()

    def changed(self) -> None:
        """Compare again soon."""
        self._dirty.set()

    async def run(self) -> None:
        """Label whenever something changed, for ever."""
        backoff = Backoff(initial=0.5, maximum=60.0)
        while True:
            self._dirty.clear()
            wait = RESYNC
            try:
                await self.label()
                backoff.reset()
            except DynamicMemoryError as error:
                wait = backoff.next()
                log.warning("nodes not labelled", extra={"error": str(error)})
            try:
                async with asyncio.timeout(wait):
                    await self._dirty.wait()
            except TimeoutError:
                pass
            await clock.sleep(SETTLE)

    async def label(self) -> None:
        """Compare and write once.

        Raises:
            ApiError: the API server refuses or does not answer.

        """
        capacity = self._capacity()
        if capacity is None:
            return
        wanted = wanted_labels(capacity)
        for name, (node, want) in changes(self._nodes(), wanted).items():
            current = node.metadata.labels.get(names.FABRIC_DOMAIN_LABEL, "")
            if want is None and (node.metadata.uid, current) in self._foreign:
                continue
            await self._apply(name, node, want, current)
        LABELLED.set(sum(1 for node in self._nodes() if node.metadata.name in wanted))

    async def _apply(self, name: str, node: Node, want: str | None, current: str) -> None:
        body: dict[str, Any] = {
            "apiVersion": kinds.NODES.api_version,
            "kind": kinds.NODES.kind,
            "metadata": {"name": name, "uid": node.metadata.uid},
        }
        if want is not None:
            body["metadata"]["labels"] = {names.FABRIC_DOMAIN_LABEL: want}
        try:
            after = await self._kube.apply(kinds.NODES, body, manager=names.MANAGER_CONTROLLER)
        except (NotFound, Conflict):
            # The node went away meanwhile, or is another one of the same name: its event comes.
            return
        faults.point(f"{ROLE}.labels-written")
        if want is None and after.metadata.labels.get(names.FABRIC_DOMAIN_LABEL) == current:
            self._foreign.add((node.metadata.uid, current))
            log.warning("label of a node is not ours, and stays", extra={"node": name, "domain": current})
        else:
            log.info("node labelled", extra={"node": name, "domain": want})
