# SPDX-License-Identifier: Apache-2.0
"""Images made on the spot: a pause image and busybox, both from the static busybox of the machine, and ours."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from tools.cluster.build import cache_dir
from tools.image import SHELL, Blob, Tree, image_name, make_image, write_archive

__all__ = ["BUSYBOX", "PAUSE", "base_images", "our_image"]

BUSYBOX = "localhost/busybox:1"
PAUSE = "localhost/pause:1"
APPLETS = ("awk", "cat", "dd", "echo", "env", "false", "free", "grep", "head", "kill", "ls", "mount", "nc", "nslookup",
           "ps", "sh", "sleep", "tail", "test", "top", "true", "wget")  # fmt: skip


@functools.cache
def base_images() -> tuple[Path, ...]:
    """Return the archives of the pause image and of busybox."""
    folder = cache_dir() / "image"
    folder.mkdir(parents=True, exist_ok=True)
    assert SHELL.exists(), f"{SHELL} is missing: run `make cluster-prerequisites`"
    tree = Tree()
    tree.file("bin/busybox", SHELL)
    for name in APPLETS:
        tree.link(f"bin/{name}", "busybox")
    tree.data("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    tree.folder("tmp", 0o1777)
    archives = folder / "pause.tar", folder / "busybox.tar"
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        layer = Path(scratch) / "layer.tar"
        tree.write(layer)
        blob = Blob.of(layer)
        environment = ["PATH=/bin"]
        write_archive(archives[0], PAUSE, [blob], {"Entrypoint": ["/bin/sleep", "1000000000"], "Env": environment})
        write_archive(archives[1], BUSYBOX, [blob], {"Cmd": ["/bin/sh"], "Env": environment})
    return archives


@functools.cache
def our_image() -> tuple[str, Path]:
    """Return name and archive of the image of this source tree."""
    archive = cache_dir() / "image" / "dynamic-memory.tar"
    make_image(archive, cache_dir() / "image")
    return image_name(), archive
