# SPDX-License-Identifier: Apache-2.0
"""Scenario 5 on the embedded cluster, the few of its deaths that every change has to pass; the others are `long`.

A driver as a process of its own, killed as its memory has been composed, as it has come online, while a failed attach
is undone, and as it goes back.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.cluster.test_scenario_5_driver import killed_at
from tests.embedded.support.stage import EmbeddedCluster

POINTS = ("driver.memory-added", "driver.onlined", "driver.failure-reported", "driver.region-destroyed")


@pytest.fixture(scope="module")
def outcomes(cluster: EmbeddedCluster, rights: None) -> Iterator[dict[str, str]]:
    """What went wrong at each point, and under the name `world` with what all share."""
    yield from killed_at(cluster, POINTS)


@pytest.mark.parametrize("point", [*POINTS, "world"])
def test_scenario_5_driver_killed_at(outcomes, point):
    """After a restart the same end state: the pod ran with its memory, and every byte is back, lost or doubled none."""
    assert not outcomes[point], outcomes[point]
