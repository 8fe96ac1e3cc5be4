# SPDX-License-Identifier: Apache-2.0
"""Marks of a trace: what the API server shows of one pod, its claim and the nodes, and what our roles log."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

from dynamic_memory.api import names
from dynamic_memory.embedded.cluster.trace import LogMarks, Trace
from dynamic_memory.embedded.kubelet.objects import CLAIMS, NODES, PODS, Object
from dynamic_memory.kube.informer import Change, Informer
from dynamic_memory.kube.interface import Kube

__all__ = ["Marks"]


class Marks:
    """Follows one pod from its submission to the last byte.

    Args:
        kube: the API server.
        trace: the moments.
        pod: its name; no pod of another namespace has it.
        claim: the name of its claim, or, for one that is made from a template, how it begins.
        size: its fabric memory, as the node shows it (`2Gi`).

    """

    def __init__(self, kube: Kube, trace: Trace, *, pod: str, claim: str, size: str) -> None:
        self._kube = kube
        self._trace = trace
        self._name = pod
        self._claim_name = claim
        self._size = size

    @contextlib.asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Follow everything while the context is entered; what there is at its beginning is known then."""
        handler = LogMarks(self._trace)
        logger = logging.getLogger()
        logger.addHandler(handler)
        informers: list[Informer[Object]] = []
        for kind, changed in ((PODS, self._pod), (CLAIMS, self._claim), (NODES, self._node)):
            informer = Informer(self._kube, kind)
            informer.subscribe(changed)
            informers.append(informer)
        tasks = [asyncio.create_task(informer.run()) for informer in informers]
        try:
            for informer in informers:
                await informer.wait_synced()
            yield
        finally:
            logger.removeHandler(handler)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _pod(self, change: Change[Object]) -> None:
        pod, mark = change.object, self._trace.mark
        if pod.metadata.name != self._name:
            return
        if change.type == "deleted":
            mark("gone", "the pod is gone")
            return
        mark("queued", "the pod is Pending, the scheduler has it")
        if pod.spec.get("nodeName"):
            mark("bound", f"the pod is bound to {pod.spec['nodeName']}")
        if pod.status.get("phase") == "Running" and pod.metadata.deletion_timestamp is None:
            mark("running", "the pod is Running")

    def _claim(self, change: Change[Object]) -> None:
        if change.object.metadata.name.startswith(self._claim_name) and change.object.status.get("allocation"):
            results = change.object.status["allocation"]["devices"]["results"]
            self._trace.mark("allocated", "allocated: " + ", ".join(_result(each) for each in results))

    def _node(self, change: Change[Object]) -> None:
        if change.old is None or change.type == "deleted":
            return
        before, after = (
            (each.status.get("capacity") or {}).get(names.EXTENDED_RESOURCE, "0")
            for each in (change.old, change.object)
        )
        if before == after:
            return
        text = f"{change.object.metadata.name}: {names.EXTENDED_RESOURCE} {before} -> {after}"
        # blocks come and go one after the other: what counts is the whole amount
        mark = {self._size: "shown", "0": "shown-back"}.get(str(after), f"shown {after}")
        self._trace.mark(mark, text)


def _result(result: dict[str, Any]) -> str:
    size = (result.get("consumedCapacity") or {}).get("size", "")
    return f"{size} of {result['pool']}/{result['device']}"
