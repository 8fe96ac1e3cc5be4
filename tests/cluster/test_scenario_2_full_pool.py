# SPDX-License-Identifier: Apache-2.0
"""Scenario 2: ten pods of 1Gi and a pool of 4Gi. Whoever waits gets in as soon as bytes are back, and never before."""

from __future__ import annotations

import time

from tests.cluster.support.observer import Observer
from tests.cluster.support.processes import eventually

GI = 1 << 30


def phase(cluster, namespace: str) -> tuple[set[str], set[str]]:
    """Return the names of the pods that run and of those that wait."""
    pods = [pod for pod in cluster.api.list("Pod", namespace) if not pod["metadata"].get("deletionTimestamp")]
    running = {pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"}
    return running, {pod["metadata"]["name"] for pod in pods} - running


def test_scenario_2_four_run_six_wait_and_each_release_lets_one_in(cluster, world, fake_nodes, namespace):
    here = world(fake_nodes(2), size="4Gi", window="4Gi")
    with Observer(here.fabric_folder / "fabric.json", here.domain, 4 * GI) as observer:
        for number in range(10):
            here.pod(f"p{number}", namespace, "1Gi")
        eventually(lambda: len(phase(cluster, namespace)[0]) == 4, 90, "four pods run")
        waiting = phase(cluster, namespace)[1]
        assert len(waiting) == 6

        # each of them has a reason that people can read
        def reasons() -> bool:
            told = {name for name, reason, _ in here.events(namespace) if reason == "FailedScheduling"}
            return {f"Pod/{name}" for name in waiting} <= told

        eventually(reasons, 30, "every waiting pod was told why")
        assert here.free() == 0

        for left in (5, 4, 3):
            running, waiting = phase(cluster, namespace)
            victim = min(running)
            tag = here.claim_of(victim, namespace)["status"]["allocation"]["devices"]["results"][0]["shareID"]
            cluster.api.delete("Pod", victim, namespace)
            eventually(
                lambda tag=tag: tag not in {share.tag for share in here.extents()}, 30, "its bytes are back", 0.02
            )
            back = time.monotonic()
            eventually(
                lambda before=running: len(phase(cluster, namespace)[0] - before) == 1, 10, "the next one is let in"
            )
            print(f"let in {time.monotonic() - back:.1f} s after the bytes were back")
            assert len(phase(cluster, namespace)[1]) == left
        assert observer.most == 4 * GI
        for pod in cluster.api.list("Pod", namespace):
            cluster.api.delete("Pod", pod["metadata"]["name"], namespace, missing_ok=True)
        eventually(lambda: not cluster.api.list("Pod", namespace), 60, "all pods are gone")
        here.wait_all_back()
    here.wait_values({"pool0": 4 * GI})
