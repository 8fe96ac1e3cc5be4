# SPDX-License-Identifier: Apache-2.0
"""The fabric as callers hold it."""

from __future__ import annotations

from dynamic_memory.fabric.interface import Fabric

__all__ = ["Fabric"]
