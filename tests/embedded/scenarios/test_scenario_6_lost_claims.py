# SPDX-License-Identifier: Apache-2.0
"""Scenario 6 on the embedded cluster."""

from tests.cluster.test_scenario_6_lost_claims import (
    blind,
    test_scenario_6_claim_used_again_while_bytes_of_its_forced_pod_are_held,
    test_scenario_6_force_deleted_pod_on_a_live_host_is_released_by_its_driver,
    test_scenario_6_host_dead_and_proven_so,
    test_scenario_6_I7_next_claim_waits_while_a_live_host_holds_bytes_of_a_freed_claim,
    test_scenario_6_namespace_deleted,
    test_scenario_6_node_object_deleted,
    test_scenario_6_node_object_deleted_and_made_anew_while_the_driver_lives,
    test_scenario_6_rule_14_rebooted_node_gets_its_memory_again_before_the_kubelet_goes_on,
    test_scenario_6_rule_19_controller_that_cannot_see_all_claims_touches_nothing,
    test_scenario_6_second_owner_on_the_same_fabric_stays_untouched,
)

__all__ = [
    "blind",
    "test_scenario_6_I7_next_claim_waits_while_a_live_host_holds_bytes_of_a_freed_claim",
    "test_scenario_6_claim_used_again_while_bytes_of_its_forced_pod_are_held",
    "test_scenario_6_force_deleted_pod_on_a_live_host_is_released_by_its_driver",
    "test_scenario_6_host_dead_and_proven_so",
    "test_scenario_6_namespace_deleted",
    "test_scenario_6_node_object_deleted",
    "test_scenario_6_node_object_deleted_and_made_anew_while_the_driver_lives",
    "test_scenario_6_rule_14_rebooted_node_gets_its_memory_again_before_the_kubelet_goes_on",
    "test_scenario_6_rule_19_controller_that_cannot_see_all_claims_touches_nothing",
    "test_scenario_6_second_owner_on_the_same_fabric_stays_untouched",
]
