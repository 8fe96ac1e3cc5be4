# SPDX-License-Identifier: Apache-2.0
"""Build pinned Go modules once, into a cache folder outside the tree.

What decides a program (its module files, sources and recipe) is hashed, and the hash is part of the name of its folder:
other sources are another folder, and a second build of the same ones finds the folder and does nothing. A folder
appears by a rename once it is complete, so an interrupted build leaves nothing that a look-up would accept.

The cache is $DYNAMIC_MEMORY_CACHE, else $XDG_CACHE_HOME/dynamic-memory, else ~/.cache/dynamic-memory. Standard library
only, so that it runs before any virtual environment exists.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = ["NO_GO", "Program", "cache_dir", "compile_into"]

PAUSES = (5, 20, 60)
"""Seconds before a download is tried again: proxies fail for a moment now and then."""
NO_GO = "no `go` on PATH: install Go 1.26 or newer"


def cache_dir() -> Path:
    """Folder for what is built, outside the source tree."""
    if explicit := os.environ.get("DYNAMIC_MEMORY_CACHE"):
        return Path(explicit)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "dynamic-memory"


def compile_into(
    folder: Path, arguments: Sequence[str], *, packages: Sequence[str], output: str, module: Path, cgo: bool = False
) -> None:
    """Run `go build` and put what it makes at `folder`, in the place of what is there.

    Args:
        folder: where the programs come to lie.
        arguments: more arguments of `go build`.
        packages: what is built.
        output: file name of the one program; empty if there are several, which have the names of their packages.
        module: folder of the Go module.
        cgo: the program has parts in C.

    Raises:
        subprocess.CalledProcessError: it does not build, or its sources could not be had.

    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    name = folder.name.rpartition("-")[0]
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as scratch:
        made = Path(scratch) / "out"
        made.mkdir()
        environment = {**os.environ, "CGO_ENABLED": "1" if cgo else "0"}
        _download(arguments, packages, module, environment)
        command = ["go", "build", "-mod=readonly", "-trimpath", "-buildvcs=false", *arguments]
        command += ["-o", f"{made}/{output}", *packages]
        subprocess.run(command, cwd=module, env=environment, check=True)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


def _download(arguments: Sequence[str], packages: Sequence[str], module: Path, environment: Mapping[str, str]) -> None:
    """Have `go` fetch the sources that a build needs, and no others; go.sum says what they have to be."""
    command = ["go", "list", "-mod=readonly", "-deps", *arguments, *packages]
    for pause in (*PAUSES, None):
        done = subprocess.run(command, cwd=module, env=environment, check=False, stdout=subprocess.DEVNULL)
        if done.returncode == 0:
            return
        if pause is None:
            raise subprocess.CalledProcessError(done.returncode, command)
        print(f"{module.name}: no sources yet, trying again in {pause} s", file=sys.stderr, flush=True)
        time.sleep(pause)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Program:
    """One Go program of this tree, the main package of a module of its own.

    Args:
        module: folder of the module; its name is that of the folder in the cache.
        sources: files beside go.mod and go.sum that decide what is built.
        binary: file name of the program.
        tags: build tags.

    """

    module: Path
    sources: tuple[str, ...]
    binary: str
    tags: str = ""

    def path(self) -> Path:
        """Return where the program is, or would be."""
        digest = hashlib.sha256()
        for name in ("go.mod", "go.sum", *self.sources):
            digest.update((self.module / name).read_bytes())
        return cache_dir() / "bin" / f"{self.module.name}-{digest.hexdigest()[:16]}" / self.binary

    def find(self) -> Path | None:
        """Return the program if it was built already."""
        path = self.path()
        return path if path.is_file() else None

    def build(self) -> Path:
        """Build the program unless it is in the cache, and return its path.

        Raises:
            FileNotFoundError: there is no Go on PATH.
            subprocess.CalledProcessError: it does not build.

        """
        if (found := self.find()) is not None:
            return found
        if shutil.which("go") is None:
            raise FileNotFoundError(NO_GO)
        path = self.path()
        tags = ["-tags", self.tags] if self.tags else []
        compile_into(path.parent, tags, packages=["."], output=self.binary, module=self.module)
        return path

    def main(self) -> int:
        """Build, and say where the program is; return the exit status."""
        try:
            print(self.build())
        except FileNotFoundError as error:
            print(f"build.py: {error}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as error:
            print(f"build.py: {self.module.name} did not build (go exited {error.returncode})", file=sys.stderr)
            return 1
        return 0
