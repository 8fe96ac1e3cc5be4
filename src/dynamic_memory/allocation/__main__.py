# SPDX-License-Identifier: Apache-2.0
"""`python -m dynamic_memory.allocation`: the allocation engine for other programs.

    python -m dynamic_memory.allocation                       JSON lines on standard input, answers on standard output
    python -m dynamic_memory.allocation --bench FILE SECONDS  measure decisions

This is the one module of the room that does I/O. The exit code is 0, or 1 if a question could not be read (it still got
its answer, and the others too), a file is unusable, or the input is too long.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Sequence
from typing import BinaryIO

import msgspec

from dynamic_memory.allocation.bench import bench
from dynamic_memory.allocation.protocol import answer
from dynamic_memory.errors import DynamicMemoryError

__all__ = ["main", "serve"]

USAGE = "usage: python -m dynamic_memory.allocation [--bench FILE SECONDS]"
LINE_LIMIT = 2**31
STEP = 100_000


class _Progress:
    """Tells on standard error how far the reading of a large input is."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def __call__(self, what: str, count: int) -> None:
        before = self._counts.get(what, 0)
        after = self._counts[what] = before + count
        if after // STEP > before // STEP:
            _say(f"{after // STEP * STEP} {what} read")

    def reset(self) -> None:
        self._counts.clear()


def main(arguments: Sequence[str]) -> int:
    """Serve, or measure, as the arguments say; return the exit code."""
    try:
        match list(arguments):
            case []:
                return serve(sys.stdin.buffer, sys.stdout.buffer)
            case ["--help" | "-h"]:
                print(USAGE)  # noqa: T201 - asked for
                return 0
            case ["--bench", file, text]:
                seconds = float(text)
                sys.stdout.buffer.write(bench(file, seconds, _share_id, _Progress()) + b"\n")
                return 0
    except BrokenPipeError:
        # Nobody listens any more; the interpreter would complain when it flushes.
        sys.stderr.close()
    except (DynamicMemoryError, msgspec.MsgspecError, OSError, ValueError, RecursionError) as error:
        _say(str(error))
    except KeyboardInterrupt:
        _say("interrupted")
    else:
        _say(USAGE)
    return 1


def serve(source: BinaryIO, sink: BinaryIO) -> int:
    """Answer every line; return 1 if one could not be read."""
    status = 0
    progress = _Progress()
    while line := source.readline(LINE_LIMIT):
        if len(line) >= LINE_LIMIT:
            _say(f"a line is longer than {LINE_LIMIT} bytes")
            return 1
        if not line.strip():
            continue
        progress.reset()
        reply = answer(line, _share_id, progress)
        if not reply.readable:
            status = 1
        sink.write(reply.line + b"\n")
        sink.flush()
    return status


def _share_id() -> str:
    return str(uuid.uuid4())


def _say(text: str) -> None:
    print(f"allocation: {text}", file=sys.stderr)  # noqa: T201 - the only way to tell people


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
