# SPDX-License-Identifier: Apache-2.0
"""Scenario 5: two drivers on a node, as in a rolling update, and one of them is killed at each of its fault points.

One of the two holds the node's lock, and attaches and detaches; the other, which the kubelet calls because it came
last, serves Prepare of what is ready. So three may die: the leader, for whom the other takes over at once; the server;
and the successor, to whom the leader has just handed over, with a release that the kubelet waits for.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import BYTES, Scene, scene
from tests.cluster.support.life import POINTS, STORIES, Life
from tests.cluster.support.lives import Story, Until, together
from tests.cluster.support.processes import eventually

SERVERS = ("prepared-recorded", "cdi-written", "prepared")
SUCCESSORS = ("taken-back", "report-withdrawn", "releasing-recorded", "cdi-removed", "unprepared")
# what a leader does without being called
FORCED = ("offlined", "region-destroyed", "memory-removed", "record-dropped")


class Pair(Life):
    """A share's life with two drivers; see the module for who dies."""

    def __init__(self, stage: Scene, node: Any, point: str) -> None:
        super().__init__(stage, node, point)
        self.short = point.partition(".")[2]
        self.leader = f"driver-{node.name}"
        self.other = f"driver-{node.name}-b"

    @property
    def victim(self) -> str:
        return self.other if self.short in SERVERS + SUCCESSORS else self.leader

    def start_leader(self) -> None:
        self.world.start_driver(self.node.name, fault=self.point if self.victim == self.leader else None)

    def start_other(self) -> None:
        self.world.start_driver(self.node.name, fault=self.point if self.victim == self.other else None, instance="b")

    def leads(self, name: str) -> bool:
        """Tell whether a process holds the node's lock, by what it wrote there."""
        said = (self.world.state_dir(self.node.name) / "node.lock").read_text().strip()
        return said == f"process {self.world.children[name].pid}"

    def both_registered(self) -> bool:
        return len([*self.node.registry.glob("*-reg.sock")]) == 2

    def start(self) -> None:
        """Nobody is started where the other one is there."""
        if self.short in SUCCESSORS:
            self.world.start_driver(self.node.name, instance="c")

    def hand_over(self) -> Story:
        """The kubelet has asked the successor; now the leader ends in peace."""
        leader = self.world.children.pop(self.leader)
        leader.signal(signal.SIGTERM)
        yield Until(lambda: leader.code is not None, 15, "the leader ends")
        assert leader.code == 0

    def story(self) -> Story:
        if self.short in FORCED:
            yield from self.is_forced()
        else:
            yield from STORIES[self.short](self)


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, rights: None) -> Iterator[dict[str, str]]:
    """What went wrong at each point, and under the name `world` with what all share."""
    with scene(cluster, len(POINTS), driver={"timing": {"hold": "1s"}}) as stage:
        world = stage.world
        world.start_service()
        world.start_controller()
        pairs = [Pair(stage, node, point) for point, node in zip(POINTS, stage.nodes, strict=True)]
        for pair in pairs:
            pair.start_leader()
        world.wait_published(60)
        for pair in pairs:
            eventually(lambda pair=pair: pair.leads(pair.leader), 20, "the first driver leads")
            pair.start_other()
        for pair in pairs:
            eventually(pair.both_registered, 60, "both are registered")
        with stage.observer as observer:
            found = together({pair.point: pair.story() for pair in pairs}, cluster.pace.story)
        broken = [f"{tag} held {most} bytes" for tag, most in observer.most_of.items() if most != BYTES]
        broken += [name for name in ("service", "controller") if world.children[name].code is not None]
        if not any(found.values()):
            broken += [] if world.free() == 32 << 30 else [f"only {world.free()} bytes are free"]
        found = stage.with_logs(found, {pair.point: [pair.node] for pair in pairs})
        yield {**found, "world": "\n".join(broken)}


@pytest.mark.parametrize("point", POINTS)
def test_scenario_5_one_of_two_drivers_killed_at(outcomes, point):
    """The same end state as with one: the pod ran with its memory, and every byte is back."""
    assert not outcomes[point], outcomes[point]


def test_scenario_5_I1_no_extent_was_lost_or_doubled_between_two_drivers(outcomes):
    assert not outcomes["world"], outcomes["world"]
