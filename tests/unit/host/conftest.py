# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dynamic_memory.host.config import SimulatedHostConfig
from dynamic_memory.host.simulated.host import SimulatedHost
from dynamic_memory.process.config import Bytes

MIB = 1 << 20
GIB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "host"


@pytest.fixture
def host_config(root: Path) -> Callable[..., SimulatedHostConfig]:
    def make(*, nodes: int = 1, each: int = GIB, block: int = 128 * MIB, **more: object) -> SimulatedHostConfig:
        size = max(each, block)
        return SimulatedHostConfig(root=root, nodes=(Bytes(size),) * nodes, block_size=Bytes(block), **more)

    return make


@pytest.fixture
def open_simulated(host_config: Callable[..., SimulatedHostConfig]) -> Callable[..., SimulatedHost]:
    def make(*, deadline: float = 60.0, **config: object) -> SimulatedHost:
        return SimulatedHost(host_config(**config), deadline=deadline)

    return make


@pytest.fixture
def tree_of() -> Callable[[Path], dict[str, str]]:
    """Return everything that the tree says, by path; what nobody reads is left out."""

    def read(root: Path) -> dict[str, str]:
        found = {}
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if name.startswith((".scratch", ".building")):
                continue
            if path.is_symlink():
                found[name] = f"-> {path.readlink()}"
            elif path.is_file():
                found[name] = path.read_text()
        return found

    return read
