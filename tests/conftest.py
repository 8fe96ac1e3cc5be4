# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings

# The first synchronous test would otherwise leave an event loop behind that virtual time makes and nobody closes.
asyncio.set_event_loop(None)

# The same examples each time, however long one takes: a machine with other work has neither 200 ms for each nor luck.
# `--hypothesis-profile=default` looks for new ones.
settings.register_profile(
    "same", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("same")
