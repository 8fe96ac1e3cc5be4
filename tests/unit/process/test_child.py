# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio
import signal

import pytest

from dynamic_memory.process.child import ChildFailed, ChildTimeout, run_module


@pytest.fixture
def module(tmp_path, monkeypatch):
    def make(source: str) -> str:
        (tmp_path / "childmodule.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        return "childmodule"

    return make


async def test_what_goes_in_comes_out(module):
    name = module("import sys\nsys.stdout.write(sys.stdin.read()[::-1])")
    assert await run_module(name, b"abc") == b"cba"


async def test_a_failure_has_the_code_and_the_end_of_the_text(module):
    name = module("import sys\nsys.stderr.write('x' * 9000 + 'bad request')\nsys.exit(3)")
    with pytest.raises(ChildFailed) as caught:
        await run_module(name, b"a secret")
    assert caught.value.code == 3
    assert caught.value.error.endswith("bad request")
    assert len(caught.value.error) <= 500
    assert "secret" not in str(caught.value)


async def test_a_child_that_hangs_is_killed(module, monkeypatch):
    started = []
    start = asyncio.create_subprocess_exec

    async def remember(*args, **kwargs):
        started.append(await start(*args, **kwargs))
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", remember)
    with pytest.raises(ChildTimeout):
        await run_module(module("import time\ntime.sleep(60)"), b"", timeout=0.3)
    assert started[0].returncode == -signal.SIGKILL


async def test_the_environment_is_not_handed_on(module, monkeypatch):
    monkeypatch.setenv("A_SECRET", "s")
    assert await run_module(module("import os\nprint('A_SECRET' in os.environ)"), b"") == b"False\n"
