# SPDX-License-Identifier: Apache-2.0
"""Scenario 4 on the embedded cluster."""

from tests.cluster.test_scenario_4_release_held import (
    test_scenario_4_I4_what_cannot_be_given_back_stays_with_its_pod,
    test_scenario_4_rule_16_a_claim_serves_one_pod_after_the_other,
    test_scenario_4_rule_16_what_slips_through_the_policies_is_refused_by_the_driver,
    test_scenario_4_rule_18_I7_bytes_of_a_pod_deleted_by_force_wait_for_their_release,
    test_scenario_4_rules_16_and_17_people_get_a_sentence,
)

__all__ = [
    "test_scenario_4_I4_what_cannot_be_given_back_stays_with_its_pod",
    "test_scenario_4_rule_16_a_claim_serves_one_pod_after_the_other",
    "test_scenario_4_rule_16_what_slips_through_the_policies_is_refused_by_the_driver",
    "test_scenario_4_rule_18_I7_bytes_of_a_pod_deleted_by_force_wait_for_their_release",
    "test_scenario_4_rules_16_and_17_people_get_a_sentence",
]
