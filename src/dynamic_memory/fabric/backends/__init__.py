# SPDX-License-Identifier: Apache-2.0
"""Ways to a memory fabric: one Protocol (`interface`), and who implements it."""

__all__: list[str] = []
