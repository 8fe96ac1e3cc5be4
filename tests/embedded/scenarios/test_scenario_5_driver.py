# SPDX-License-Identifier: Apache-2.0
"""Scenario 5 on the embedded cluster: drivers killed at each of their fault points, as processes of their own."""

import pytest
from tests.cluster.test_scenario_5_driver import (
    outcomes,
    test_scenario_5_driver_killed_at,
    test_scenario_5_every_fault_point_of_the_driver_has_a_story,
    test_scenario_5_I1_no_extent_was_lost_or_doubled_by_a_driver_that_died,
)

__all__ = [
    "outcomes",
    "test_scenario_5_I1_no_extent_was_lost_or_doubled_by_a_driver_that_died",
    "test_scenario_5_driver_killed_at",
    "test_scenario_5_every_fault_point_of_the_driver_has_a_story",
]

pytestmark = pytest.mark.timeout(240)
