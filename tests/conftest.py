# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings

# The first synchronous test would otherwise leave an event loop behind that virtual time makes and nobody closes.
asyncio.set_event_loop(None)

# How long an example takes, or the making of one, says how busy the machine is. `make test` tries the same examples in
# each run; `make test-long` looks for new ones.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True, database=None)
settings.load_profile("same")
