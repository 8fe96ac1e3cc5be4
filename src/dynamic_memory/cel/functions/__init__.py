# SPDX-License-Identifier: Apache-2.0
"""The functions of CEL and of Kubernetes' libraries, one module per library."""

from __future__ import annotations

__all__: list[str] = []
