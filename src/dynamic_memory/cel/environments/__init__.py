# SPDX-License-Identifier: Apache-2.0
"""What expressions may name: DRA selectors, CRD rules, the prototype's constraints, admission policies."""

from __future__ import annotations

__all__: list[str] = []
