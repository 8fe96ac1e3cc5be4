# SPDX-License-Identifier: Apache-2.0
"""Commands of ours as processes of their own, without the second that each takes to import what it needs.

One process (this module, run as a program) imports every role and then forks, for each order that it reads, one that
runs the command line as `dynamic-memory` does. What is forked is a process like any other: its fault points kill it,
and nothing of it runs afterwards. Orders and answers are JSON, one a line.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.cluster.support.processes import NotInTime, tail

__all__ = ["Forked", "Forks"]

PR_SET_PDEATHSIG = 1
ROOT = Path(__file__).parents[3]


class Forked:
    """One command that runs, with the looks of `tests.cluster.support.processes.Child`."""

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.pid = 0
        self.code: int | None = None
        self.started = threading.Event()
        self._gone = threading.Event()

    def ended(self, code: int) -> None:
        """Note its exit code (negative: the signal)."""
        self.code = code
        self._gone.set()

    def check(self) -> None:
        """Fail with the end of its log if it has ended."""
        assert self.code is None, f"{self.name} ended with {self.code}:\n{tail(self.log)}"

    def signal(self, number: int) -> None:
        """Send a signal to the process, and to what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def wait(self, timeout: float = 60) -> int:
        """Return the exit code.

        Raises:
            NotInTime: it still runs after `timeout` seconds.

        """
        if not self._gone.wait(timeout):
            raise NotInTime(f"{self.name} still runs after {timeout:g} s:\n{tail(self.log)}")
        assert self.code is not None
        return self.code

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self.code is None:
            self.signal(signal.SIGKILL)
        self.wait(30)

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        if self.code is None:
            self.signal(signal.SIGTERM)
        return self.wait(30)


class Forks:
    """The process that forks; it, and all that it has forked, end with `stop`, or with the thread that made it.

    Args:
        logs: folder of the log files.

    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "forking.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=ROOT,
            )
        self._children: list[Forked] = []
        self._reader = threading.Thread(target=self._read, name="forks", daemon=True)
        self._reader.start()

    def start(self, name: str, arguments: Sequence[str | Path], environment: Mapping[str, str]) -> Forked:
        """Run `dynamic-memory` with these arguments; it waits until the process is there."""
        child = Forked(name, self._logs / f"{name}.log")
        self._children.append(child)
        order = {"arguments": [*map(str, arguments)], "environment": {**environment}, "log": str(child.log)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()
        assert child.started.wait(60), f"{name} does not start: see {self._logs}/forking.log"
        return child

    def stop(self) -> None:
        """End all of them."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._reader.join(30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            answer = json.loads(line)
            child = self._children[answer["number"]]
            if "pid" in answer:
                child.pid = answer["pid"]
                child.started.set()
            else:
                child.ended(answer["code"])


# --- the process that forks


def _serve() -> None:
    """Fork for each line that is read; at the end of them, kill what still runs."""
    running: dict[int, int] = {}

    def tell(**answer: int) -> None:
        os.write(1, json.dumps(answer).encode() + b"\n")

    def reap(*_: Any) -> None:
        while running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            tell(number=running.pop(pid), code=os.waitstatus_to_exitcode(status))

    signal.signal(signal.SIGCHLD, reap)
    for number, line in enumerate(sys.stdin):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})  # it may be dead before we know its number
        pid = os.fork()
        if not pid:
            _become(json.loads(line))
        running[pid] = number
        tell(number=number, pid=pid)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for pid in list(running):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _become(order: Mapping[str, Any]) -> NoReturn:
    """Be the process that was ordered, and never return."""
    code: Any = 1
    try:
        os.setsid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in enumerate((nothing, log, log)):
            os.dup2(source, number)
        os.environ.update(order["environment"])
        sys.argv = ["dynamic-memory", *order["arguments"]]
        code = main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException:  # noqa: BLE001 - it is the end of a process, whatever it is
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    # all that a role imports before its first step
    import dynamic_memory.cli.certificates
    import dynamic_memory.controller.role
    import dynamic_memory.driver.role
    import dynamic_memory.fabric.role
    import dynamic_memory.process.run  # noqa: F401
    from dynamic_memory.cli import main

    _serve()
