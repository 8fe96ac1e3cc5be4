# SPDX-License-Identifier: Apache-2.0
"""What the kubelet takes for prepared, from its own checkpoint (`dra_manager_state`): only read, and only in part.

The form of the file changes from release to release (Kubernetes wraps it in another JSON text since 1.32), so nothing
but the claims' UIDs are looked for: a UID that the file does not have is one that the kubelet does not know.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["read"]

FILE = "dra_manager_state"
_UID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def read(kubelet_root: Path) -> frozenset[str] | None:
    """Return the UIDs in the kubelet's checkpoint; None if it cannot be read. Blocks for one file."""
    try:
        return frozenset(_UID.findall((kubelet_root / FILE).read_text(errors="replace")))
    except OSError:
        return None
