# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings

# The first synchronous test would otherwise leave an event loop behind that virtual time makes and nobody closes.
asyncio.set_event_loop(None)

# How long an example takes, or the making of one, says how busy the machine is.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
