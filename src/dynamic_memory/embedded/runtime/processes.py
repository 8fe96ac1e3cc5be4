# SPDX-License-Identifier: Apache-2.0
"""A container that is a child process of ours: its command, in the environment of the container, and nothing more.

For the curious. There is no isolation at all: no image, no namespaces, no cgroup; paths and programs are those of this
machine. It sees what CDI gives it as environment, its output goes to the log file, it gets SIGTERM and SIGKILL. Its
memory is what the kernel says of it (RSS), and a limit is not enforced.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import msgspec

from dynamic_memory.embedded.runtime.commands import NOT_FOUND
from dynamic_memory.embedded.runtime.container import ContainerSpec, Ended, new_id
from dynamic_memory.embedded.runtime.curves import Reading
from dynamic_memory.process import clock

__all__ = ["ProcessContainer"]

PAGE = os.sysconf("SC_PAGE_SIZE")
FIRST_SIGNAL_CODE = 128
_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR")


class ProcessContainer:
    """See the module; the arguments are those of `SimulatedContainer`.

    Args:
        spec: what it is made from; its plan and model do not count.
        ended: called once, when the process has ended.
        folder: where it runs unless the container names another folder.

    """

    def __init__(self, spec: ContainerSpec, ended: Callable[[], None], *, folder: Path) -> None:
        self.id = new_id()
        self.spec = spec
        self.started = clock.now()
        self.ended: Ended | None = None
        self._told = ended
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._wanted: int | None = None
        self._oom = ""
        self._timer: asyncio.TimerHandle | None = None
        self._task = asyncio.create_task(self._run(), name=f"container {spec.name}")

    async def _run(self) -> None:
        code, message = NOT_FOUND, ""
        try:
            code = await self._child()
        except OSError as error:
            message = f"failed to start: {error}"
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)
            raise
        finally:
            if self._timer is not None:
                self._timer.cancel()
            reason = self._oom or ("StartError" if message else "Completed" if code == 0 else "Error")
            self.ended = Ended(code=code, reason=reason, at=clock.now(), message=message)
            self._told()

    async def _child(self) -> int:
        environment = {key: os.environ[key] for key in _KEPT if key in os.environ} | dict(self.spec.env)
        command = self.spec.command or ("sleep", "infinity")  # an image's own command is not here to be run
        with self._output() as output:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=self.spec.working_dir or self._folder,
                start_new_session=True,
            )
        if self._wanted is not None:
            self._signal(self._wanted)
        code = await self._process.wait()
        # what it started goes with it, as the processes of a container do
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return code if code >= 0 else FIRST_SIGNAL_CODE - code

    def _output(self) -> BinaryIO:
        if self.spec.log is None:
            return Path(os.devnull).open("ab")
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        return self.spec.log.open("ab")

    def read(self) -> Reading:
        """See `Container`."""
        if self._process is None or self.ended is not None:
            return Reading(0, 0, 0.0)
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()
        except OSError:
            return Reading(0, 0, 0.0)
        resident, shared = int(pages[1]) * PAGE, int(pages[2]) * PAGE
        return Reading(resident - shared, shared, 0.0)

    def set_limit(self, limit: int | None) -> None:
        """See `Container`; kept, not enforced."""
        self.spec = msgspec.structs.replace(self.spec, limit=limit)

    def stop(self, grace: float) -> None:
        """See `Container`."""
        self._signal(signal.SIGTERM)
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(grace, self.kill)

    def kill(self, reason: str = "Error") -> None:
        """See `Container`."""
        self._oom = reason if reason != "Error" else ""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._process is None:
            self._wanted = number
        elif self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
