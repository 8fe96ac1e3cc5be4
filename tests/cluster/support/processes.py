# SPDX-License-Identifier: Apache-2.0
"""Child processes of a test run: each in a group of its own, with a log file, ended by process id.

Nothing may outlive the run, also not when pytest itself is killed: the kernel kills each child when the thread that
started it ends (PR_SET_PDEATHSIG by setpriv), so children are started in the main thread only.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

__all__ = ["Child", "NotInTime", "be_patient", "eventually", "patient", "tail", "tails"]

T = TypeVar("T")

POLL_SECONDS = 0.05
FIRST_SECONDS = 0.005
_times = 1.0


def be_patient(times: float) -> None:
    """Wait `times` as long as the tests say before something is taken not to come true, in all of this run.

    The limits in tests are what an idle machine needs, and some more. They only end what would never come true, so on
    a machine that may be busy with anything they may as well be a multiple.
    """
    global _times  # noqa: PLW0603 - a run has one patience, and everything waits by it
    _times = times


def patient(seconds: float) -> float:
    """Return how long is waited in this run for what should take `seconds` at most."""
    return seconds * _times


class NotInTime(AssertionError):
    """Something did not come true in time; the text has the last state that was seen."""


def eventually(check: Callable[[], T], timeout: float, what: str, every: float = POLL_SECONDS) -> T:
    """Return the first truthy result of `check`.

    It is called more often at first: what comes soon is seen soon, and what takes long is not asked for all the time.

    `check` may also fail with AssertionError, LookupError or OSError (an ApiError is one) as long as it is not yet
    true; the last result or failure is part of the message.

    Raises:
        NotInTime: after `timeout` seconds; after a multiple of them in a patient run.

    """
    timeout = patient(timeout)
    begin = time.monotonic()
    while True:
        state: object
        try:
            if result := check():
                return result
            state = result
        except (AssertionError, LookupError, OSError) as error:
            state = error
        passed = time.monotonic() - begin
        if passed > timeout:
            raise NotInTime(f"not within {timeout:g} s: {what}; last: {state!r}")
        time.sleep(min(every, max(passed / 5, FIRST_SECONDS)))


def tail(path: Path, start: int = 0, limit: int = 6000) -> str:
    """Return the end of what a log file has from byte `start` on."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(start, size - limit))
        text = file.read().decode(errors="replace")
    return ("... " if size - start > limit else "") + text


def tails(paths: Iterable[Path], offsets: Mapping[Path, int], total: int, least: int = 800) -> list[tuple[Path, str]]:
    """Return the ends of what was added to log files since they had these sizes: about `total` bytes of all.

    What is short is whole; of what is long there are `least` bytes at least.
    """
    added = {path: max(0, path.stat().st_size - offsets.get(path, 0)) for path in paths if path.exists()}
    share, left = total, dict(sorted(added.items(), key=lambda entry: entry[1]))
    for number, size in enumerate(left.values()):  # what the short ones do not need is for the others
        share = total // (len(left) - number)
        if size > share:
            break
        total -= size
    texts = [
        (path, tail(path, offsets.get(path, 0), max(least, share)).strip()) for path, size in added.items() if size
    ]
    return [(path, text) for path, text in texts if text]


class Child:
    """One child process, running from construction on.

    Args:
        name: its log is `<logs>/<name>.log`, appended to if it exists.
        command: program and arguments.
        logs: folder of log files.
        environment: additions to the environment of the test run.
        folder: working directory.

    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        logs: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        assert threading.current_thread() is threading.main_thread(), "the child would end with this thread"
        self.name = name
        self.log = logs / f"{name}.log"
        with self.log.open("ab") as log:
            self._begin = log.tell()
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """Exit code (negative: the signal), None while it runs."""
        return self._process.poll()

    def said(self) -> str:
        """Return what it has logged."""
        return tail(self.log, self._begin, 1 << 20)

    def check(self) -> None:
        """Fail with the end of its log if it has ended."""
        assert self.code is None, f"{self.name} ended with {self.code}:\n{tail(self.log)}"

    def signal(self, number: int) -> None:
        """Send a signal to the process and its children that share its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def wait(self, timeout: float) -> int:
        """Return the exit code.

        Raises:
            NotInTime: it still runs after `timeout` seconds; after a multiple of them in a patient run.

        """
        return self._wait(patient(timeout))

    def _wait(self, timeout: float) -> int:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise NotInTime(f"{self.name} still runs after {timeout:g} s:\n{tail(self.log)}") from None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10)

    def stop(self, timeout: float = 10) -> int:
        """SIGTERM, SIGKILL if that does not help in time; return the exit code."""
        if self.code is not None:
            return self.code
        self.signal(signal.SIGTERM)
        try:
            return self._wait(timeout)
        except NotInTime:
            self.kill()
            return self.wait(1)
