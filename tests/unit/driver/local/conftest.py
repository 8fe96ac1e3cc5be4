# SPDX-License-Identifier: Apache-2.0
"""Here, `rig` is a node whose driver has the node's own memory, and runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.unit.driver.local_rig import LocalRig
from tests.unit.driver.rig import Rig


@pytest.fixture
async def rig(rig: Rig, tmp_path: Path) -> AsyncIterator[LocalRig]:
    made = LocalRig(tmp_path)
    await made.start()
    yield made
    await made.stop()
