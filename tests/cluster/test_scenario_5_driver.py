# SPDX-License-Identifier: Apache-2.0
"""Scenario 5: the driver is killed at each of its fault points, and what becomes of the memory is always the same.

All points are tried at the same time, each on a node of its own, and each test looks at the outcome of one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import BYTES, SIZE, Scene, key_of, scene
from tests.cluster.support.lives import Story, Until, together

import dynamic_memory.driver.points  # noqa: F401 - declares the points
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.process import faults

pytestmark = pytest.mark.timeout(240)

POINTS = faults.names("driver")


class Life:
    """The life of one share on one node, with a driver that is killed at one point of it."""

    def __init__(self, stage: Scene, node: Any, point: str) -> None:
        self.stage = stage
        self.world = stage.world
        self.node = node
        self.point = point
        self.pod = key_of(point)

    def make(self, pod: str = "", **options: Any) -> None:
        self.world.pod(pod or self.pod, self.stage.namespace, SIZE, node=self.node.name, **options)

    def delete(self, pod: str = "", **options: Any) -> None:
        self.world.api.delete("Pod", pod or self.pod, self.stage.namespace, **options)

    def tag(self) -> str:
        """Return the share that the pod's claim has now."""
        return self.stage.allocations(self.pod)[-1].share

    def dies(self) -> Story:
        """Wait for the driver's death, and look at what it leaves behind."""
        yield from self.stage.dies(f"driver-{self.node.name}")
        self.stage.told_truth(self.node)

    def start(self) -> None:
        self.world.start_driver(self.node.name)

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
        yield from self.dies()
        self.start()
        yield from self.stage.ends(self.pod, self.node)

    def fails(self) -> Story:
        """Killed while a failed attach is undone: one block comes online, the other does not."""
        self.world.host_faults(self.node.name, {"operation": "online", "blocks": 1})
        self.make()
        yield from self.dies()
        self.world.host_faults(self.node.name)
        self.start()
        yield from self.stage.runs(self.pod, self.node, shares=2)
        first, second = self.stage.allocations(self.pod)
        assert first.attached is None
        assert first.failed is not None
        assert second.failed is None
        self.delete()
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
        the first one's claim unprepared, and that decides: the second pod waits, and holds up nothing.
        """
        first, second, namespace = f"{self.pod}-1", f"{self.pod}-2", self.stage.namespace
        uid = self.world.claim(self.pod, namespace, SIZE)["metadata"]["uid"]
        self.make(first, claim=self.pod)
        yield from self.stage.runs(first, self.node, claim=self.pod)
        self.world.host_faults(self.node.name, {"operation": "offline"})
        self.delete(first)
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
        assert len(self.stage.allocations(self.pod)) == 1

    def is_orphaned(self) -> Story:
        """Killed when memory is found that no claim has, beside a pod that keeps its own."""
        self.make()
        yield from self.stage.runs(self.pod, self.node)
        before, orphan, name = self.tag(), str(uuid.uuid4()), self.node.name

        async def add(fabric: Fabric) -> None:
            await fabric.add_memory(node=name, pool=self.world.pool, device="pool0", size=BYTES, tag=orphan)

        self.world.ask(add, identity=f"node/{name}")
        assert set(self.stage.held(name)) == {before, orphan}
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


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, rights: None) -> Iterator[dict[str, str]]:
    """What went wrong at each point, and under the name `world` with what all share."""
    with scene(cluster, len(POINTS), driver={"timing": {"hold": "1s"}}) as stage:
        world = stage.world
        world.start_service()
        world.start_controller()
        lives = {point: Life(stage, node, point) for point, node in zip(POINTS, stage.nodes, strict=True)}
        for point, life in lives.items():
            world.start_driver(life.node.name, fault=point)
        world.wait_published(60)
        shared = {name: world.children[name].pid for name in ("service", "controller")}
        with stage.observer as observer:
            found = together({point: STORIES[point.partition(".")[2]](life) for point, life in lives.items()})
            broken = [
                *(f"{name} ended" for name in shared if world.children[name].code is not None),
                *(f"{tag} held {most} bytes" for tag, most in observer.most_of.items() if most != BYTES),
            ]
            if not any(found.values()):
                broken += [] if world.free() == 32 << 30 else [f"only {world.free()} bytes are free"]
                broken += [] if world.values() == {"pool0": 32 << 30} else [f"{world.values()} is published"]
        yield {**found, "world": "\n".join(broken)}


def test_scenario_5_every_fault_point_of_the_driver_has_a_story():
    assert set(STORIES) == {point.partition(".")[2] for point in POINTS}


@pytest.mark.parametrize("point", POINTS)
def test_scenario_5_driver_killed_at(outcomes, point):
    """After a restart the same end state: the pod ran with its memory, and every byte is back."""
    assert not outcomes[point], outcomes[point]


def test_scenario_5_I1_no_extent_was_lost_or_doubled_by_a_driver_that_died(outcomes):
    """At no moment of all these deaths, and without a restart of anybody else."""
    assert not outcomes["world"], outcomes["world"]
