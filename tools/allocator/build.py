#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the Go peer of the allocation engine, Kubernetes' own allocator behind our JSON lines, into the cache folder.

    python3 tools/allocator/build.py       build unless it is there, print the path of the program

Standard library only.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tools.gobuild import Program  # noqa: E402 - found by the line above when this runs as a script

__all__ = ["build", "find"]

PROGRAM = Program(module=HERE, sources=("main.go", "bench.go"), binary="peer")

build = PROGRAM.build
find = PROGRAM.find

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
