# SPDX-License-Identifier: Apache-2.0
"""Scenario 2 on the embedded cluster."""

from tests.cluster.test_scenario_2_full_pool import test_scenario_2_four_run_six_wait_and_each_release_lets_one_in

__all__ = ["test_scenario_2_four_run_six_wait_and_each_release_lets_one_in"]
