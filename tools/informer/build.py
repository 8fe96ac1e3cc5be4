#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build the Go peer of the embedded API server, informers of Kubernetes' own client library, into the cache folder.

    python3 tools/informer/build.py       build unless it is there, print the path of the program

Beside the module files, the Go sources themselves decide what is built, so they are part of the key. Standard library
only.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

__all__ = ["build", "find"]

HERE = Path(__file__).resolve().parent
SOURCES = ("go.mod", "go.sum", "main.go")


def _cache_dir() -> Path:
    """Return the cache of built programs: the rule of tools/cluster/build.py."""
    if explicit := os.environ.get("DYNAMIC_MEMORY_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dynamic-memory"


def _program() -> Path:
    digest = hashlib.sha256()
    for name in SOURCES:
        digest.update((HERE / name).read_bytes())
    return _cache_dir() / "bin" / f"informer-{digest.hexdigest()[:16]}" / "peer"


def find() -> Path | None:
    """Return the program if it was built already."""
    program = _program()
    return program if program.is_file() else None


def build() -> Path:
    """Build the program unless it is in the cache, and return its path.

    Raises:
        FileNotFoundError: there is no Go on PATH.
        subprocess.CalledProcessError: it does not build.

    """
    if (found := find()) is not None:
        return found
    if shutil.which("go") is None:
        message = "no `go` on PATH: install Go 1.26 or newer"
        raise FileNotFoundError(message)
    program = _program()
    program.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=program.parent.parent, prefix=".informer-") as scratch:
        output = Path(scratch) / "out"
        output.mkdir()
        command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", str(output / "peer"), "."]
        subprocess.run(command, cwd=HERE, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
        shutil.rmtree(program.parent, ignore_errors=True)
        output.rename(program.parent)
    return program


def main() -> int:
    """Build, and say where the program is."""
    try:
        print(build())
    except FileNotFoundError as error:
        print(f"build.py: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"build.py: the peer did not build (go exited {error.returncode})", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
