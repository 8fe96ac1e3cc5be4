# SPDX-License-Identifier: Apache-2.0
"""OpenAPI documents, made from the same Schemas that validate, prune and merge."""

from __future__ import annotations

from dynamic_memory.embedded.apiserver.openapi.service import OpenApi

__all__ = ["OpenApi"]
