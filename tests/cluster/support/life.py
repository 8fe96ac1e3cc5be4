# SPDX-License-Identifier: Apache-2.0
"""The life of one share, through the death of its driver at any one of its fault points."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

from tests.cluster.support.deaths import BIND, BYTES, SIZE, Scene, key_of
from tests.cluster.support.lives import Story, Until
from tests.cluster.support.processes import NotInTime

import dynamic_memory.driver.points  # noqa: F401 - declares the points
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.process import faults

__all__ = ["POINTS", "STORIES", "Life"]

POINTS = faults.names("driver")
FORCE = {"dynamicmemory.dev/allow-force-delete": "true"}


class Life:
    """The life of one share on one node, with a driver that is killed at one point of it.

    With one driver; `start`, `hand_over` and `victim` are what differs with two.
    """

    def __init__(self, stage: Scene, node: Any, point: str) -> None:
        self.stage = stage
        self.world = stage.world
        self.node = node
        self.point = point
        self.pod = key_of(point)

    @property
    def victim(self) -> str:
        """Name of the process that dies."""
        return f"driver-{self.node.name}"

    def make(self, pod: str = "", **options: Any) -> None:
        self.world.pod(pod or self.pod, self.stage.namespace, SIZE, node=self.node.name, **options)

    def delete(self, pod: str = "", **options: Any) -> None:
        self.world.api.delete("Pod", pod or self.pod, self.stage.namespace, **options)

    def tag(self) -> str:
        """Return the share that the pod's claim has now."""
        return self.stage.allocations(self.pod)[-1].share

    def dies(self) -> Story:
        """Wait for the driver's death, and look at what it leaves behind."""
        yield from self.stage.dies(self.victim)
        self.stage.told_truth(self.node)

    def heals(self) -> None:
        """Let the host be well from the driver's death on: at once, not when the story is next looked at."""
        child = self.world.children[self.victim]

        def heal() -> None:
            with contextlib.suppress(NotInTime):  # the story says so
                child.wait(BIND)
                self.world.host_faults(self.node.name)

        threading.Thread(target=heal, name=f"heals {self.node.name}", daemon=True).start()

    def start(self) -> None:
        """Let there be a driver again."""
        self.world.start_driver(self.node.name)

    def hand_over(self) -> Story:
        """Let the victim be the one that gives memory back."""
        yield from ()

    # --- on the way to the memory, and on the way back

    def comes(self) -> Story:
        """Killed while the memory comes."""
        self.make()
        yield from self.dies()
        self.start()
        yield from self.stage.runs(self.pod, self.node)
        self.delete()
        yield from self.stage.ends(self.pod, self.node)

    def goes(self) -> Story:
        """Killed while the memory goes."""
        self.make()
        yield from self.stage.runs(self.pod, self.node)
        self.delete()
        yield from self.hand_over()
        yield from self.dies()
        self.start()
        yield from self.stage.ends(self.pod, self.node)

    def fails(self) -> Story:
        """Killed while a failed attach is undone: one block comes online, the other does not."""
        self.world.host_faults(self.node.name, {"operation": "online", "blocks": 1})
        self.heals()
        self.make()
        yield from self.dies()
        self.start()
        yield from self.stage.runs(self.pod, self.node, shares=2)
        first, second = self.stage.allocations(self.pod)
        assert first.attached is None
        assert first.failed is not None
        assert second.failed is None
        self.delete()
        yield from self.stage.ends(self.pod, self.node)

    def is_forced(self) -> Story:
        """Killed while memory goes whose pod was deleted by force: the driver sees for itself that it is to go."""
        self.make(annotations=FORCE)
        yield from self.stage.runs(self.pod, self.node)
        self.delete(grace=0)
        yield from self.dies()
        self.start()
        yield from self.stage.ends(self.pod, self.node)

    def vanishes(self) -> Story:
        """Killed while memory goes that nobody waits for any more: its claim is gone, and there is no Unprepare."""
        self.world.host_faults(self.node.name, {"operation": "arrive"})
        self.make()
        yield Until(lambda: self.stage.held(self.node.name), 40, "the fabric has composed the memory")
        self.delete()
        yield from self.dies()
        self.world.host_faults(self.node.name)
        self.start()
        yield from self.stage.ends(self.pod, self.node)
        (only,) = self.stage.allocations(self.pod)
        assert only.attached is None

    def returns(self) -> Story:
        """Killed when a claim is given to another pod while its memory is on its way back.

        No policy lets two pods share a claim, so somebody has to put one in the other's place. The kubelet still wants
        the first one's claim unprepared, and that decides: the second pod waits, and holds up nothing. If it is not
        deleted before the scheduler looks again, its claim is given another share; in the end that is back, too.
        """
        first, second, namespace = f"{self.pod}-1", f"{self.pod}-2", self.stage.namespace
        uid = self.world.claim(self.pod, namespace, SIZE)["metadata"]["uid"]
        self.make(first, claim=self.pod)
        yield from self.stage.runs(first, self.node, claim=self.pod)
        self.world.host_faults(self.node.name, {"operation": "offline"})
        self.delete(first)
        yield from self.hand_over()
        yield Until(
            lambda: self.stage.records(self.node.name)[uid]["shares"][0]["state"] == "releasing", 20, "it is released"
        )
        self.make(second, claim=self.pod)
        pod = self.world.api.get("Pod", second, namespace)["metadata"]
        reserved = {"reservedFor": [{"resource": "pods", "name": second, "uid": pod["uid"]}]}
        self.world.api.patch("ResourceClaim", self.pod, {"status": reserved}, namespace, subresource="status")
        yield from self.dies()
        (share,) = self.stage.records(self.node.name)[uid]["shares"]
        assert share["state"] == "attaching"
        self.world.host_faults(self.node.name)
        self.start()
        yield Until(lambda: self.world.api.find("Pod", first, namespace) is None, 30, f"{first} is gone")
        self.delete(second)
        self.world.api.delete("ResourceClaim", self.pod, namespace)
        yield from self.stage.ends(second, self.node)

    def is_orphaned(self) -> Story:
        """Killed when memory is found that no claim has, beside a pod that keeps its own."""
        self.make()
        yield from self.stage.runs(self.pod, self.node)
        before, orphan, name = self.tag(), str(uuid.uuid4()), self.node.name

        async def add(fabric: Fabric) -> None:
            await fabric.add_memory(node=name, pool=self.world.pool, device="pool0", size=BYTES, tag=orphan)

        self.world.ask(add, identity=f"node/{name}")  # with two drivers, the other one may have given it back by now
        assert before in self.stage.held(name)
        yield from self.dies()
        self.start()
        yield Until(lambda: set(self.stage.held(name)) == {before}, 30, "the orphan is gone")
        yield Until(lambda: len(self.stage.records(name)) == 1, 10, "so is its record")
        yield from self.stage.runs(self.pod, self.node)
        self.delete()
        yield from self.stage.ends(self.pod, self.node)


STORIES: dict[str, Callable[[Life], Story]] = {
    "record-written": Life.comes,
    "taken-back": Life.returns,
    "report-withdrawn": Life.goes,
    "memory-added": Life.comes,
    "region-created": Life.comes,
    "onlined": Life.comes,
    "reported": Life.comes,
    "record-attached": Life.comes,
    "releasing-written": Life.vanishes,
    "truth-published": Life.fails,
    "offlined": Life.goes,
    "region-destroyed": Life.goes,
    "memory-removed": Life.goes,
    "failure-reported": Life.fails,
    "record-dropped": Life.goes,
    "failure-recorded": Life.fails,
    "prepared-recorded": Life.comes,
    "cdi-written": Life.comes,
    "prepared": Life.comes,
    "releasing-recorded": Life.goes,
    "cdi-removed": Life.goes,
    "unprepared": Life.goes,
    "orphan-recorded": Life.is_orphaned,
}
"""The story that passes each point."""
