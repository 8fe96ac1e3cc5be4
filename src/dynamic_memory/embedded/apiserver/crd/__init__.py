# SPDX-License-Identifier: Apache-2.0
"""CustomResourceDefinitions: what makes one valid, and what it makes served."""

__all__: list[str] = []
