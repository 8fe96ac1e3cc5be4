# SPDX-License-Identifier: Apache-2.0
"""Scenario 5: the service is killed at each of its fault points, between drivers that add and remove at the same time.

The service has no life per share, so all its deaths happen to the same few: it is killed at one point, started again
with the next, until it is let live.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import BYTES, SIZE, Scene, scene
from tests.cluster.support.lives import Story, Until, together

import dynamic_memory.fabric.steps  # noqa: F401 - declares the points
from dynamic_memory.process import faults

POINTS = faults.names("service")
ADD = tuple(point for point in POINTS if point.startswith("service.add-"))
REMOVE = tuple(point for point in POINTS if point.startswith("service.remove-"))


def killed_at_each(stage: Scene, points: tuple[str, ...], outcomes: dict[str, str]) -> Story:
    """Let the service die at one point after the other; the first has it in its environment already."""
    for number, point in enumerate(points):
        yield from stage.dies("service")
        for node in stage.nodes:
            stage.told_truth(node)
        outcomes[point] = ""
        stage.world.start_service(points[number + 1] if number + 1 < len(points) else None)


def three(stage: Scene, outcomes: dict[str, str]) -> Story:
    """Three shares come, and go, on three nodes, through every death of the service."""
    world, namespace = stage.world, stage.namespace
    pods = {f"p{number}": node for number, node in enumerate(stage.nodes)}
    world.kill("service")
    world.start_service(ADD[0])
    for pod, node in pods.items():
        world.pod(pod, namespace, SIZE, node=node.name)
    yield from killed_at_each(stage, ADD, outcomes)
    for pod, node in pods.items():
        yield from stage.runs(pod, node)
    world.kill("service")
    world.start_service(REMOVE[0])
    for pod, node in pods.items():
        assert world.running(pod, namespace), "the death of the service is nothing to a pod that runs"
        assert len(stage.held(node.name)) == 1
        world.api.delete("Pod", pod, namespace)
    yield from killed_at_each(stage, REMOVE, outcomes)
    for pod, node in pods.items():
        yield from stage.ends(pod, node)
    yield Until(lambda: world.free() == 32 << 30, 10, "every byte is free")
    yield Until(lambda: world.values() == {"pool0": 32 << 30}, 10, "and offered")


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, rights: None) -> Iterator[dict[str, str]]:
    """What went wrong at each point; the world's end state is part of each."""
    with scene(cluster, 3) as stage:
        world = stage.world
        world.start()
        others = {name: child.pid for name, child in world.children.items() if name != "service"}
        passed: dict[str, str] = {}
        with stage.observer as observer:
            failure = together({"three": three(stage, passed)}, cluster.pace.story)["three"]
        for name, pid in others.items():
            if world.children[name].code is not None or world.children[name].pid != pid:
                failure += f"\n{name} ended"
        failure += "".join(f"\n{tag} held {most}" for tag, most in observer.most_of.items() if most != BYTES)
        if len(observer.most_of) != len(stage.nodes):
            failure += f"\n{len(observer.most_of)} shares were attached"
        failure = stage.with_logs({"three": failure}, {"three": stage.nodes})["three"]
        yield {point: failure if point in passed else f"not passed: {failure}" for point in POINTS}


@pytest.mark.parametrize("point", POINTS)
def test_scenario_5_service_killed_at(outcomes, point):
    """After a restart the same end state: the pods ran with their memory, and every byte is back."""
    assert not outcomes[point], outcomes[point]
