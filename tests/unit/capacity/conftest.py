# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import logging

import pytest
from tests.support.fake_kube import FakeKube


@pytest.fixture
async def fake_kube() -> FakeKube:
    return FakeKube()


@pytest.fixture(autouse=True)
def every_log_line_is_made(caplog: pytest.LogCaptureFixture) -> None:
    """A line that is not logged by default is a line that was never tried."""
    caplog.set_level(logging.DEBUG, "dynamic_memory")
