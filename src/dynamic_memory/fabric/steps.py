# SPDX-License-Identifier: Apache-2.0
"""The places at which tests kill the service: around everything that outlives it."""

from __future__ import annotations

from dynamic_memory.process import faults

__all__ = [
    "ADD_BEFORE_COMPOSE",
    "ADD_BEFORE_WRITE",
    "ADD_COMPOSED",
    "REMOVE_BEFORE_RELEASE",
    "REMOVE_BEFORE_WRITE",
    "REMOVE_RELEASED",
]

_ROLE = "service"
_POINTS = (
    "add-before-compose",  # the fabric has not been asked
    "add-before-write",  # simulated fabric: extents chosen, nothing on disk
    "add-composed",  # the host has the memory, the caller has not been told
    "remove-before-release",
    "remove-before-write",
    "remove-released",  # the bytes are back, the caller has not been told
)
faults.declare(_ROLE, *_POINTS)
(
    ADD_BEFORE_COMPOSE,
    ADD_BEFORE_WRITE,
    ADD_COMPOSED,
    REMOVE_BEFORE_RELEASE,
    REMOVE_BEFORE_WRITE,
    REMOVE_RELEASED,
) = faults.names(_ROLE)
