# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that have to be told one, and for those that come back to theirs.

They are none that the kernel would give to a caller: so nobody has taken them when they are used at last, or when a
server that was killed is started again.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import socket

__all__ = ["PORTS", "free_port", "free_ports"]

PORTS = range(20000, 32768)
"""The kernel gives callers (ip_local_port_range) others."""
_ports = itertools.count(random.randrange(len(PORTS)))


def free_ports(count: int) -> list[int]:
    """Return ports that nothing listens on; no two calls in one run return the same."""
    found: list[int] = []
    for _ in PORTS:
        port = PORTS[next(_ports) % len(PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: past connections are no matter
            probe.bind(("", port))
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"there are no {count} free ports from {PORTS[0]} to {PORTS[-1]}")


def free_port() -> int:
    """Return one."""
    return free_ports(1)[0]
