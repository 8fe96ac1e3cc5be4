# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.support.fake_kube import FakeKube


@pytest.fixture
async def fake_kube() -> FakeKube:
    return FakeKube()
