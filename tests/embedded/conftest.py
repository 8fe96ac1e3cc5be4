# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests of the embedded cluster: an API server, and a client of it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.embedded.support.client import Client
from tests.embedded.support.servers import Running, running

# Clients of other people take the proxies of the environment, which know nothing of the loopback of this machine.
for _name in ("no_proxy", "NO_PROXY"):
    os.environ[_name] = ",".join(filter(None, (os.environ.get(_name), "127.0.0.1,localhost")))


@pytest.fixture
async def running_server() -> AsyncIterator[Running]:
    """A server on a free port, with everything that its defaults have."""
    async with running() as found:
        yield found


@pytest.fixture
def client(running_server: Running) -> Client:
    """A client of the running server."""
    return running_server.client


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    """A file of static tokens: `sesame` for ali, `root-token` for root, `plain` for joe."""
    file = tmp_path / "tokens.csv"
    file.write_text('# comment\nsesame,ali,u1,"thieves,readers"\nroot-token,root,,system:masters\n\nplain,joe\n')
    return file
