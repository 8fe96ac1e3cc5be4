# SPDX-License-Identifier: Apache-2.0
"""The audit log: one line of JSON a request, for people, and for tests that prove who asked for what.

The handler of a request only puts its line into memory; a thread writes. When the disk is slower than the clients for
long, lines are dropped and their number is written, so that the log never slows the server down and never lies.
Tokens in queries are not written.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import quote, quote_plus

import msgspec.json

from dynamic_memory.embedded.apiserver.clock import Clock
from dynamic_memory.embedded.apiserver.request import Request
from dynamic_memory.process.clock import rfc3339_micro

__all__ = ["AuditLog", "entry"]

KEPT = 50_000  # lines in memory at most
UNAUTHORIZED = 401
SECRET = ("token", "access_token", "password", "secret")
FIELDS = ("verb", "group", "version", "resource", "subresource", "namespace", "name", "path")


def _uri(request: Request) -> str:
    pairs = [
        (name, "…" if name.lower() in SECRET else value) for name, values in request.query.items() for value in values
    ]
    path = quote(request.path, safe="/:@!$&'()*+,;=~")
    if not pairs:
        return path
    return f"{path}?{'&'.join(f'{quote_plus(name)}={quote_plus(value)}' for name, value in pairs)}"


def entry(request: Request, code: int, seconds: float, at: str) -> dict[str, Any]:
    """Return the line of a request.

    Args:
        request: with what the pipeline found out about it in `audit`.
        code: of the answer.
        seconds: until the answer began.
        at: the time, RFC 3339.

    """
    user = request.impersonator or request.user
    # who sent credentials that are nobody's is not known
    found: dict[str, Any] = {"time": at, "user": "" if code == UNAUTHORIZED else user.name}
    if request.impersonator is not None:
        found["impersonatedUser"] = request.user.name
    known: Mapping[str, Any] = request.audit
    found |= {field: known[field] for field in FIELDS if known.get(field)}
    found.setdefault("verb", request.method.lower())
    found |= {"code": code, "milliseconds": round(seconds * 1000, 3), "requestURI": _uri(request)}
    if agent := request.headers.get("user-agent"):
        found["userAgent"] = agent
    if request.first("dryRun"):
        found["dryRun"] = True
    if annotations := known.get("annotations"):
        found["annotations"] = annotations
    if extra := user.extra:
        found["extra"] = {key: list(values) for key, values in extra.items()}
    return found


class AuditLog:
    """Writes lines to a file, in a thread. A context manager: leaving it writes what is left.

    Args:
        path: the file; lines are appended.
        clock: the server's time.

    """

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        self._lines: queue.Queue[bytes | None] = queue.Queue(KEPT)
        self._dropped = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._file: IO[bytes] = os.fdopen(os.open(path, flags, 0o600), "ab", buffering=0)
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def __call__(self, request: Request, code: int, seconds: float) -> None:
        """Log a request; never waits."""
        line = entry(request, code, seconds, rfc3339_micro(self._clock.now()))
        if self._dropped:
            line["droppedBefore"] = self._dropped
        try:
            self._lines.put_nowait(msgspec.json.encode(line) + b"\n")
        except queue.Full:
            self._dropped += 1
        else:
            self._dropped = 0

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            lines = [line]
            end = False
            with contextlib.suppress(queue.Empty):
                while True:
                    more = self._lines.get_nowait()
                    if more is None:
                        end = True
                        break
                    lines.append(more)
            with contextlib.suppress(OSError):  # a full disk must not end the server
                self._file.write(b"".join(lines))
            if end:
                break

    def close(self) -> None:
        """Write what is left and close the file; blocks until that is done."""
        if self._thread.is_alive():
            self._lines.put(None)
            self._thread.join()
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
