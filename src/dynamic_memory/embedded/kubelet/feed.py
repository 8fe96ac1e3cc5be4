# SPDX-License-Identifier: Apache-2.0
"""The pods of nodes: one watch for all kubelets of a process, given out by `spec.nodeName`.

A kubelet alone watches its own pods (`fields=spec.nodeName=n1`). Two hundred in a process would each have the API
server look at every pod for it; here the change is looked at once.
"""

from __future__ import annotations

from collections.abc import Callable

from dynamic_memory.embedded.kubelet.objects import PODS, Pod
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube

__all__ = ["PodFeed"]

Handler = Callable[[Change[Pod]], None]


class PodFeed:
    """See the module.

    Args:
        kube: the API server.
        node: only this node's pods; empty for those of all nodes.

    """

    def __init__(self, kube: Kube, node: str = "") -> None:
        self._informer: Informer[Pod] = Informer(
            kube,
            PODS,
            fields=f"spec.nodeName={node}" if node else "spec.nodeName!=",
            keep=lambda pod: bool(pod.spec.get("nodeName")),
            indexes={"node": lambda pod: [str(pod.spec["nodeName"])]},
        )
        self._handlers: dict[str, Handler] = {}
        self._informer.subscribe(self._changed)

    async def run(self) -> None:
        """Watch for ever."""
        await self._informer.run()

    async def attach(self, node: str, handler: Handler) -> list[Pod]:
        """Call `handler` at each change of a pod of this node from now on; return those there are, by age."""
        await self._informer.wait_synced()
        self._handlers[node] = handler
        return sorted(self._informer.by_index("node", node), key=lambda pod: pod.metadata.creation_timestamp or "")

    def detach(self, node: str) -> None:
        """Call it no more."""
        self._handlers.pop(node, None)

    def _changed(self, change: Change[Pod]) -> None:
        handler = self._handlers.get(str(change.object.spec["nodeName"]))
        if handler is not None:
            handler(change)
