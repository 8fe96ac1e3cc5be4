# SPDX-License-Identifier: Apache-2.0
"""Scenario 3 on the embedded cluster."""

from tests.cluster.test_scenario_3_failures import (
    test_scenario_3_a_request_larger_than_every_window_waits_and_nothing_is_done,
    test_scenario_3_an_attach_that_fails_once_is_made_up_for,
    test_scenario_3_claim_deallocated_and_allocated_anew_during_attach,
    test_scenario_3_fabric_down_for_a_while,
    test_scenario_3_pod_deleted_while_its_memory_is_attached,
    test_scenario_3_rule_15_an_attach_that_fails_for_ever_is_no_loop,
    test_scenario_3_rule_20_whoever_was_refused_is_woken,
    test_scenario_3_rule_22_a_pod_that_waits_for_a_driver_that_is_not_there_is_told,
    test_scenario_3_service_restarted_while_it_adds_memory,
    test_scenario_3_slow_fabric_is_waited_for,
)

__all__ = [
    "test_scenario_3_a_request_larger_than_every_window_waits_and_nothing_is_done",
    "test_scenario_3_an_attach_that_fails_once_is_made_up_for",
    "test_scenario_3_claim_deallocated_and_allocated_anew_during_attach",
    "test_scenario_3_fabric_down_for_a_while",
    "test_scenario_3_pod_deleted_while_its_memory_is_attached",
    "test_scenario_3_rule_15_an_attach_that_fails_for_ever_is_no_loop",
    "test_scenario_3_rule_20_whoever_was_refused_is_woken",
    "test_scenario_3_rule_22_a_pod_that_waits_for_a_driver_that_is_not_there_is_told",
    "test_scenario_3_service_restarted_while_it_adds_memory",
    "test_scenario_3_slow_fabric_is_waited_for",
]
