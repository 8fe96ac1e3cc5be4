# SPDX-License-Identifier: Apache-2.0
"""Where a test can kill the controller: right after each effect that outlives it."""

from dynamic_memory.process import faults

__all__ = ["ROLE"]

ROLE = "controller"

faults.declare(
    ROLE,
    "ca-created",
    "csr-approved",
    "csr-signed",
    "slices-written",
    "slices-withdrawn",
    "labels-written",
    "touched",
    "orphan-seen",
    "release-asked",
    "released-by-service",
    "waiting-told",
)
