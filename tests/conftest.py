# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests."""

from __future__ import annotations

import asyncio
import os

from hypothesis import HealthCheck, settings

# The first synchronous test would otherwise leave an event loop behind that virtual time makes and nobody closes.
asyncio.set_event_loop(None)

# How long an example takes, or the making of one, says how busy the machine is. `make test` tries the same examples in
# each run; `make test-long` looks for new ones.
settings.register_profile("new", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", settings.get_profile("new"), derandomize=True, database=None)
settings.load_profile("same")

# Clients of other people take the proxies of the environment, which know nothing of the loopback of this machine.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1,localhost")))
