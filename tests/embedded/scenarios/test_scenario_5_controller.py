# SPDX-License-Identifier: Apache-2.0
"""Scenario 5 on the embedded cluster: the controller killed at each of its fault points, as a process of its own."""

import pytest
from tests.cluster.test_scenario_5_controller import (
    outcomes,
    test_scenario_5_controller_killed_at,
    test_scenario_5_every_fault_point_of_the_controller_has_a_story,
    test_scenario_5_I5_deaths_of_the_controller_change_nothing_in_the_end,
)

__all__ = [
    "outcomes",
    "test_scenario_5_I5_deaths_of_the_controller_change_nothing_in_the_end",
    "test_scenario_5_controller_killed_at",
    "test_scenario_5_every_fault_point_of_the_controller_has_a_story",
]

pytestmark = pytest.mark.timeout(240)
