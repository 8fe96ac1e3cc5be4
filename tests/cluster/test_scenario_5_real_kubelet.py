# SPDX-License-Identifier: Apache-2.0
"""Scenario 5: six deaths of the driver between the real kubelet, containerd and containers that run.

All six pods are on one node, so all deaths happen to one driver, one after the other; each pod is in the middle of its
way when its death comes, and the others run, or wait for the scheduler, meanwhile. The real kubelet asks for an
Unprepare again only after 11 to 15 seconds.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import BYTES, SIZE, Scene, key_of, scene
from tests.cluster.support.lives import Story, Until, together
from tests.cluster.support.node import RealNode

COMES = ("driver.record-written", "driver.memory-added", "driver.onlined", "driver.reported")
GOES = ("driver.offlined", "driver.memory-removed")


class Deaths:
    """One driver, six pods, six deaths."""

    def __init__(self, stage: Scene, node: RealNode, passed: dict[str, str]) -> None:
        self.stage = stage
        self.world = stage.world
        self.node = node
        self.passed = passed
        self.driver = f"driver-{node.name}"

    def make(self, point: str) -> None:
        self.world.pod(key_of(point), self.stage.namespace, SIZE, node=self.node.name)

    def delete(self, point: str) -> None:
        self.world.api.delete("Pod", key_of(point), self.stage.namespace)

    def attached(self, point: str) -> bool:
        claim = self.world.claim_of(key_of(point), self.stage.namespace)
        return self.world.condition(claim).get("status") == "True"

    def dies(self, point: str) -> Story:
        """Wait for the death, look at what it leaves behind, and start the driver again."""
        yield from self.stage.dies(self.driver)
        self.stage.told_truth(self.node)
        self.passed[point] = ""
        self.world.start_driver(self.node.name)

    def arm(self, point: str) -> None:
        """Have the driver die at a point that only one pod is to pass."""
        self.world.kill(self.driver)
        self.world.start_driver(self.node.name, point)

    def runs(self, point: str) -> Story:
        """The container runs, and was told of its memory."""
        pod = key_of(point)
        yield from self.stage.runs(pod, self.node, alone=False)
        (share,) = self.stage.allocations(pod)
        path = f"/api/v1/namespaces/{self.stage.namespace}/pods/{pod}/log"
        yield Until(
            lambda: f"DYNAMIC_MEMORY_SHARE_IDS={share.share}\n" in str(self.world.api.call("GET", path)),
            15,
            "the container says what memory it has",
        )

    def gone(self, point: str) -> Story:
        pod = key_of(point)
        (share,) = self.stage.allocations(pod)
        yield Until(lambda: self.world.api.find("Pod", pod, self.stage.namespace) is None, 60, f"{pod} is gone")
        assert share.share not in self.stage.held(self.node.name), "I4: the pod is gone, its memory is not back"

    def story(self) -> Story:
        for point in GOES:
            self.make(point)
        for point in COMES:
            yield Until(lambda: all(self.attached(each) for each in (*GOES, *self.passed)), 30, "nobody is on the way")
            self.arm(point)
            self.make(point)
            yield from self.dies(point)
        for point in (*GOES, *COMES):
            yield from self.runs(point)
        for point in GOES:
            pod = key_of(point)
            (share,) = self.stage.allocations(pod)
            self.arm(point)
            self.delete(point)
            yield from self.dies(point)
            found = self.world.api.find("Pod", pod, self.stage.namespace)
            assert found is not None, "the pod is held until Unprepare has succeeded"
            assert "deletionTimestamp" in found["metadata"]
            tag = share.share
            yield Until(lambda tag=tag: tag not in self.stage.held(self.node.name), 30, "its memory is back")
        for point in COMES:
            assert self.world.running(key_of(point), self.stage.namespace)
            self.delete(point)
        for point in (*GOES, *COMES):
            yield from self.gone(point)
        yield from self.stage.is_clean(self.node)
        yield Until(lambda: self.world.free() == 32 << 30, 10, "every byte is free")


@pytest.fixture(scope="module")
def outcomes(cluster: Cluster, rights: None) -> Iterator[dict[str, str]]:
    """What went wrong at each point; the end state is part of each."""
    cluster.node.wait()
    with scene(cluster, 0, nodes=[cluster.node]) as stage:
        stage.world.start()
        passed: dict[str, str] = {}
        with stage.observer as observer:
            failure = together({"six": Deaths(stage, cluster.node, passed).story()})["six"]
        failure += "".join(f"\n{tag} held {most}" for tag, most in observer.most_of.items() if most != BYTES)
        if not failure and len(observer.most_of) != len(COMES + GOES):
            failure = f"{len(observer.most_of)} shares were attached"
        failure = stage.with_logs({"six": failure}, {"six": stage.nodes})["six"]
        yield {point: failure if point in passed else f"not passed: {failure}" for point in COMES + GOES}


@pytest.mark.parametrize("point", COMES + GOES)
def test_scenario_5_driver_killed_under_the_real_kubelet_at(outcomes, point):
    """After a restart the same end state: the containers ran with their memory, and every byte is back."""
    assert not outcomes[point], outcomes[point]
