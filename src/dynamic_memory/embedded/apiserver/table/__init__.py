# SPDX-License-Identifier: Apache-2.0
"""What `kubectl get` shows: tables made by the server, word for word as the real one makes them.

Nothing is imported here: a server that nobody asked for a table has none.
"""

from __future__ import annotations

__all__: list[str] = []
