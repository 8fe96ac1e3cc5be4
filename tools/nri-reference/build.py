#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the Go peer of our NRI plugin, NRI's own runtime side and plugin stub, into the cache folder.

    python3 tools/nri-reference/build.py       build unless it is there, print the path of the program

Standard library only.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from tools.gobuild import Program  # noqa: E402 - found by the line above when this runs as a script

__all__ = ["build", "find"]

# plugins as WebAssembly, with a run time of their own, are not what is measured
PROGRAM = Program(module=HERE, sources=("main.go",), binary="nri-reference", tags="nri_no_wasm")

build = PROGRAM.build
find = PROGRAM.find

if __name__ == "__main__":
    sys.exit(PROGRAM.main())
