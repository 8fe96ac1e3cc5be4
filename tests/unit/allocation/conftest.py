# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.support.allocation_world import World


@pytest.fixture
def world() -> World:
    return World()
