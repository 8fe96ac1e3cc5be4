# SPDX-License-Identifier: Apache-2.0
"""Scenario 5: the driver is killed at each of its fault points, and what becomes of the memory is always the same.

All points are tried at the same time, each on a node of its own, and each test looks at the outcome of one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import BYTES, scene
from tests.cluster.support.life import POINTS, STORIES, Life
from tests.cluster.support.lives import together


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
            found = together(
                {point: STORIES[point.partition(".")[2]](life) for point, life in lives.items()}, cluster.pace.story
            )
            broken = [
                *(f"{name} ended" for name in shared if world.children[name].code is not None),
                *(f"{tag} held {most} bytes" for tag, most in observer.most_of.items() if most != BYTES),
            ]
            if not any(found.values()):
                broken += [] if world.free() == 32 << 30 else [f"only {world.free()} bytes are free"]
                broken += [] if world.values() == {"pool0": 32 << 30} else [f"{world.values()} is published"]
        found = stage.with_logs(found, {point: [life.node] for point, life in lives.items()})
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
