# SPDX-License-Identifier: Apache-2.0
"""What all tests share."""

from __future__ import annotations

import asyncio

# The first synchronous test would otherwise leave an event loop behind that virtual time makes and nobody closes.
asyncio.set_event_loop(None)
