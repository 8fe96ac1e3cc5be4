# SPDX-License-Identifier: Apache-2.0
"""The frame of every role: one event loop, signals, readiness, and the endpoints that Kubernetes asks.

A role is a coroutine. SIGTERM or SIGINT cancels it; it then finishes or undoes the step in hand, and the process exits
with 0, within ten seconds. A role that does not end by then is ended, with 1: everything that it does has to survive
that anyhow. If the coroutine fails, the error is logged and the process exits with 1 (2 if the configuration was at
fault), so that it is started anew with nothing left over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable

from dynamic_memory.errors import DynamicMemoryError, InvalidInput
from dynamic_memory.process.readiness import Readiness

__all__ = ["EXIT_BAD_CONFIGURATION", "EXIT_FAILED", "EXIT_OK", "Process", "run"]

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_CONFIGURATION = 2
STOP_SECONDS = 9.0
"""What a role has for stopping; the rest of the ten seconds is for closing the endpoints and the interpreter."""

log = logging.getLogger(__name__)


class Process:
    """What a running role may use of its process: readiness, and the wish to stop."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.ready = Readiness()
        self.stopping = asyncio.Event()
        self.health_port: int | None = None


def run(main: Callable[[Process], Awaitable[None]], *, role: str, health_address: str | None) -> int:
    """Run `main` until it returns, fails or the process is told to stop; return the exit code.

    Args:
        main: the role.
        role: its name, for logs.
        health_address: `host:port` for /healthz, /readyz and /metrics (port 0 = any), or None for no endpoint.

    """
    try:
        return asyncio.run(_supervise(main, role, health_address))
    except InvalidInput as error:
        log.error("%s", error)  # noqa: TRY400 - the text says it all; a traceback would hide it
        return EXIT_BAD_CONFIGURATION
    except DynamicMemoryError as error:
        log.error("%s", error)  # noqa: TRY400
        return EXIT_FAILED
    except Exception:
        log.exception("%s failed", role)
        return EXIT_FAILED


async def _supervise(main: Callable[[Process], Awaitable[None]], role: str, health_address: str | None) -> int:
    process = Process(role)
    loop = asyncio.get_running_loop()

    async def body() -> None:
        async with _endpoints(process, health_address):
            await main(process)

    task = asyncio.create_task(body(), name=role)

    def stop() -> None:
        if not process.stopping.is_set():  # a second signal must not interrupt the undoing of a step
            process.stopping.set()
            task.cancel()
            loop.call_later(STOP_SECONDS, _end_now, role)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await asyncio.wait({task})
    return _result(task, process)


def _end_now(role: str) -> None:
    """End a process whose role, or a thread of it, hangs; nothing that waits for it may run any more."""
    log.error("%s did not stop within %s s", role, STOP_SECONDS)
    logging.shutdown()
    os._exit(EXIT_FAILED)


def _result(task: asyncio.Task[None], process: Process) -> int:
    if task.cancelled():
        return EXIT_OK if process.stopping.is_set() else EXIT_FAILED
    error = task.exception()
    if error is None:
        return EXIT_OK
    single = _single(error)
    if process.stopping.is_set():
        log.warning("stopped in the middle of a failure: %s", single)
        return EXIT_OK
    raise single


def _single(error: BaseException) -> BaseException:
    """Unwrap groups of one: the first real failure is what people need to see."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


@contextlib.asynccontextmanager
async def _endpoints(process: Process, address: str | None) -> AsyncIterator[None]:
    if address is None:
        yield
        return
    from dynamic_memory.process import endpoints  # noqa: PLC0415 - a role without endpoints need not carry them

    async with endpoints.serve(process.ready, address) as port:
        process.health_port = port
        yield
