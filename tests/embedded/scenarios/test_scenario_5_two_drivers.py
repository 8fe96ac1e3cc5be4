# SPDX-License-Identifier: Apache-2.0
"""Scenario 5 on the embedded cluster: two drivers on a node, and one of them killed at each of its fault points."""

import pytest
from tests.cluster.test_scenario_5_two_drivers import (
    outcomes,
    test_scenario_5_I1_no_extent_was_lost_or_doubled_between_two_drivers,
    test_scenario_5_one_of_two_drivers_killed_at,
)

__all__ = [
    "outcomes",
    "test_scenario_5_I1_no_extent_was_lost_or_doubled_between_two_drivers",
    "test_scenario_5_one_of_two_drivers_killed_at",
]

pytestmark = pytest.mark.timeout(240)
