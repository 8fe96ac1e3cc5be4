# SPDX-License-Identifier: Apache-2.0
"""Ports for servers that have to be told one, and for those that come back to theirs.

They are none of those that the kernel gives to whoever connects or binds without a wish: one of these would be taken by
somebody else before the server is there.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

__all__ = ["free_port"]


def free_port() -> int:
    """Return a port of loopback that nobody has now, and that nobody is given without asking for it."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    for port in random.sample(range(10_000, max(first, 11_000)), 100):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("a hundred ports are taken")
