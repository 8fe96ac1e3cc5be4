# SPDX-License-Identifier: Apache-2.0
"""A folder that sockets fit into, and clusters in it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="dmc-"))
    yield path / "c"
    shutil.rmtree(path, ignore_errors=True)
