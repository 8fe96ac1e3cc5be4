# SPDX-License-Identifier: Apache-2.0
"""What happened when: the arrows of the end-to-end sequence diagram, each with the moment that proves it.

Marks come from three places that know nothing of each other: watches of the API server, the log of our roles (a step of
the driver is logged when it was done), and the user. In the diagram the pod is bound before its memory is allocated;
here it is bound after that (decision 0003), so the times of arrows 9 to 13 tell another order than their numbers. What
the diagram calls a scheduler plugin is the allocator of the scheduler: it reads what driver and controller publish.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

__all__ = ["ARROWS", "ORDER", "Arrow", "LogMarks", "Trace"]


class Arrow(NamedTuple):
    """An arrow of the diagram.

    Attributes:
        number: in the diagram.
        source: who.
        target: whom.
        text: as the diagram has it.
        mark: the mark that proves it.
        how: what it is here.

    """

    number: int
    source: str
    target: str
    text: str
    mark: str
    how: str


ARROWS = tuple(
    Arrow(number, *entry)
    for number, entry in enumerate(
        (
            ("User", "APIserver", "Submit Pod with ResourceClaim", "submitted", "create"),
            ("APIserver", "Scheduler", "Add Pod to Queue", "queued", "watch of pods"),
            ("Scheduler", "SchedulerPlugin", "Invoke Plugin", "allocated", "the allocator of the scheduler"),
            ("SchedulerPlugin", "DRADriver", "Can Allocate Memory?", "published", "reads the ResourceSlices"),
            ("DRADriver", "DynamicMemoryService", "Check Capacity", "capacity", "GetCapacity and Watch, beforehand"),
            ("DynamicMemoryService", "DRADriver", "Capacity Available", "capacity", "the same"),
            ("DRADriver", "SchedulerPlugin", "Yes", "published", "the node's window, the fabric's pool"),
            ("SchedulerPlugin", "Scheduler", "Node Suitable", "allocated", "allocation in the claim"),
            ("Scheduler", "APIserver", "Bind Pod to Node", "bound", "after Attached=True, decision 0003"),
            ("DRADriver", "DynamicMemoryService", "Allocate Memory", "added", "AddMemory"),
            ("DynamicMemoryService", "Node", "Provision Memory", "region", "extents on the host: a region"),
            ("Node", "NodeCapacityUpdater", "Memory Capacity Changed", "noticed", "blocks online, ceiling raised"),
            ("NodeCapacityUpdater", "APIserver", "Update Node Status", "shown", "dynamicmemory.dev/memory"),
            ("APIserver", "Kubelet", "Start Pod", "prepared", "claim prepared"),
            ("Kubelet", "Node", "Run Pod", "running", "phase Running"),
            ("Pod", "Kubelet", "Termination Signal", "deleted", "delete"),
            ("Kubelet", "DRADriver", "Release Resources", "withdrawn", "Unprepare; Attached=False"),
            ("DRADriver", "DynamicMemoryService", "Deallocate Memory", "removed", "RemoveMemory, blocks are offline"),
            ("DynamicMemoryService", "Node", "Release Memory", "released", "bytes are back, Unprepare succeeds"),
            ("Node", "NodeCapacityUpdater", "Memory Capacity Changed", "noticed-back", "ceiling lowered"),
            ("NodeCapacityUpdater", "APIserver", "Update Node Status", "shown-back", "dynamicmemory.dev/memory"),
        ),
        1,
    )
)
"""All 21 of them, in the order of the diagram."""

ORDER = (
    ("capacity", "published", "submitted", "queued", "allocated", "added", "region", "bound", "prepared", "running"),
    ("region", "noticed", "shown"),
    ("running", "deleted", "withdrawn", "removed", "released", "gone"),
    ("withdrawn", "noticed-back", "shown-back"),
)
"""Marks that must follow each other."""


class Trace:
    """The moments of one run.

    Args:
        now: the clock, seconds.

    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.marks: dict[str, float] = {}
        self.listeners: list[Callable[[str, float, str], None]] = []

    def mark(self, name: str, text: str = "", *, again: bool = False) -> None:
        """Note that something happened now; the first time counts, unless `again` is said."""
        if name in self.marks and not again:
            return
        self.marks[name] = self._now()
        for listener in self.listeners:
            listener(name, self.marks[name], text)

    def at(self, name: str) -> float | None:
        """Return the seconds from the submission to a mark; None if there is none."""
        moment, start = self.marks.get(name), self.marks.get("submitted")
        return None if moment is None or start is None else moment - start

    def faults(self, arrows: Iterable[Arrow] = ARROWS) -> list[str]:
        """Return what did not happen, or not in the order in which it has to."""
        missing = [
            f"arrow {each.number} ({each.text}) did not happen" for each in arrows if each.mark not in self.marks
        ]
        for chain in ORDER:
            present = [name for name in chain if name in self.marks]
            missing += [
                f"{later} came before {earlier}"
                for earlier, later in itertools.pairwise(present)
                if self.marks[later] < self.marks[earlier]
            ]
        return missing


STEPS = {
    "add-memory": ("added", "memory composed on the fabric"),
    "create-region": ("region", "the host sees it: memory blocks are there"),
    "online": ("online", "memory blocks are online"),
    "report-attached": ("attached", "Attached=True in the claim"),
    "withdraw-report": ("withdrawn", "Unprepare: Attached=False in the claim"),
    "offline": ("offline", "memory blocks are offline"),
    "destroy-region": ("destroyed", "the region is gone"),
    "remove-memory": ("removed", "memory given back to the fabric"),
}


class LogMarks(logging.Handler):
    """Turns what our roles log into marks of a trace."""

    def __init__(self, trace: Trace) -> None:
        super().__init__(logging.INFO)
        self._trace = trace

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        fields: dict[str, Any] = vars(record)
        text = record.getMessage()
        mark = self._trace.mark
        if text == "step" and fields.get("step") in STEPS:
            mark(*STEPS[fields["step"]])
        elif text == "pool published":
            mark("published", "the fabric's pool is published", again="submitted" not in self._trace.marks)
        elif text == "fabric is ready":
            mark("capacity", "the service tells what there is")
        elif text == "limit of pods set":
            more = fields["after"] > (fields["before"] or 0)
            mark("noticed" if more else "noticed-back", "the limit over all pods follows")
        elif text == "prepared":
            mark("prepared", "the kubelet has the claim prepared")
        elif text == "unprepared":
            mark("released", "every byte is back in the pool")
