# SPDX-License-Identifier: Apache-2.0
"""Scenario 5 on the embedded cluster: the service killed at each of its fault points, as a process of its own."""

import pytest
from tests.cluster.test_scenario_5_service import outcomes, test_scenario_5_service_killed_at

__all__ = ["outcomes", "test_scenario_5_service_killed_at"]

pytestmark = pytest.mark.timeout(240)
