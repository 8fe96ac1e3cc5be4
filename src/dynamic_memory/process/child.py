# SPDX-License-Identifier: Apache-2.0
"""Run a module of this package as a child process: one request on its standard input, one answer on its output.

Used where a library is too big to be carried for a moment's work (cryptography), so that a daemon stays small. Input
may hold secrets: it never stands on a command line, and errors never repeat it.
"""

from __future__ import annotations

import asyncio
import os
import sys

from dynamic_memory.errors import DynamicMemoryError, NeverError, RetryError

__all__ = ["ChildFailed", "ChildTimeout", "run_module"]

MAX_ERROR = 500


class ChildFailed(NeverError):
    """The child refused its input.

    Args:
        module: which module ran.
        code: its exit code.
        error: the end of what it wrote to standard error.

    """

    def __init__(self, module: str, code: int, error: str) -> None:
        self.module = module
        self.code = code
        self.error = error
        super().__init__(module, code, error)

    def __str__(self) -> str:
        return f"{self.module} failed with exit code {self.code}: {self.error or 'no message'}"


class ChildTimeout(RetryError):
    """The child did not end in time, and was killed."""

    def __init__(self, module: str, seconds: float) -> None:
        self.module = module
        self.seconds = seconds
        super().__init__(module, seconds)

    def __str__(self) -> str:
        return f"{self.module} did not end within {self.seconds:g} s"


async def run_module(module: str, data: bytes, *, timeout: float = 30.0) -> bytes:
    """Run `python -m module`, give it `data`, and return what it wrote.

    Raises:
        ChildFailed: it ended with another exit code than 0.
        ChildTimeout: it took longer than `timeout` seconds.

    """
    # The child needs nothing of the environment but what Python itself needs to find this package.
    kept = {k: v for k, v in os.environ.items() if k in {"PATH", "PYTHONPATH", "VIRTUAL_ENV", "LANG", "LC_ALL"}}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        module,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=kept,
    )
    failure: DynamicMemoryError | None = None
    out = error = b""
    try:
        async with asyncio.timeout(timeout):
            out, error = await process.communicate(data)
    except TimeoutError:
        failure = ChildTimeout(module, timeout)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if failure is not None:
        raise failure
    if process.returncode != 0:
        text = error.decode(errors="replace").strip()
        raise ChildFailed(module, process.returncode or 0, text[-MAX_ERROR:])
    return out
