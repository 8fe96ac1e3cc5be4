# SPDX-License-Identifier: Apache-2.0
"""Which folders a node has of its own."""

from __future__ import annotations

from pathlib import Path

__all__ = ["node_folders"]


def node_folders(folder: Path) -> dict[str, Path]:
    """Return where the folders of a node are on the machine: path on the node -> path below `folder`."""
    return {
        "/var/lib/kubelet": folder / "kubelet",
        "/var/run/cdi": folder / "cdi",
        "/var/lib/dynamic-memory": folder / "dynamic-memory",
    }
