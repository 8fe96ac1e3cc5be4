# SPDX-License-Identifier: Apache-2.0
"""What `kubectl get` shows: tables made by the server, word for word as the real one makes them."""

from __future__ import annotations

from dynamic_memory.embedded.apiserver.table.duration import human_duration
from dynamic_memory.embedded.apiserver.table.metadata import partial_list, partial_object
from dynamic_memory.embedded.apiserver.table.render import INCLUDE, Tables, include_object

__all__ = ["INCLUDE", "Tables", "human_duration", "include_object", "partial_list", "partial_object"]
