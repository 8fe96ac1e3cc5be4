#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make what the guest of the kernel tests boots from: a Debian kernel, an initramfs, a disk with a Kubernetes node.

    python3 tools/kernel/build.py     prints the folder

The kernel is the one of this machine's Debian release, unpacked, not installed. The initramfs loads the few modules
that the guest needs and mounts the disk; the disk has busybox, containerd, runc, kubelet and CNI plugins (tools/cluster
builds them). All else, Python and this source tree included, the guest reads from this machine through 9p, read-only.
The folder is made once for each Debian release and content of what goes into it, with the kernel that was newest then
(its name is in the file `package`): whoever has it needs no mirror, and tests do not change with one. Standard library
only.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import lzma
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.cluster import build as cluster  # noqa: E402 - found by the line above when this runs as a script

__all__ = ["GuestImage", "build", "find"]

HERE = Path(__file__).resolve().parent
BUSYBOX = Path("/bin/busybox")
KUBERNETES = "kubernetes-1.37"
METAPACKAGE = "linux-image-amd64"
# crc32c_generic: ext4 asks for it by a name that only modprobe could resolve
MODULES = (
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "crc32c_generic", "ext4", "overlay"),
    *("9pnet_virtio", "9p", "bridge", "veth"),
)
DISK = "4G"
PAUSES = (5, 20, 60)
"""Seconds before a download is tried again."""
SCRIPTS = ("setup", "run", "rsh")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GuestImage:
    """What a guest boots from."""

    kernel: Path
    initramfs: Path
    disk: Path


def find() -> GuestImage:
    """Return the image.

    Raises:
        FileNotFoundError: it was not built yet; the text says which command builds it.

    """
    folder = _folder()
    image = GuestImage(kernel=folder / "vmlinuz", initramfs=folder / "initramfs.gz", disk=folder / "disk.img")
    if not all(path.is_file() for path in (image.kernel, image.initramfs, image.disk)):
        message = f"{folder} is missing: run `make kernel-guest` first"
        raise FileNotFoundError(message)
    return image


def build() -> GuestImage:
    """Make the image unless it is there. The folder appears by a rename once it is complete."""
    try:
        return find()
    except FileNotFoundError:
        pass
    folder = _folder()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".guest-") as scratch:
        output, unpacked = Path(scratch) / "out", Path(scratch) / "kernel"
        output.mkdir()
        (output / "package").write_text(_unpack(unpacked) + "\n")
        (kernel,) = (unpacked / "boot").glob("vmlinuz-*")
        shutil.copy(kernel, output / "vmlinuz")
        (modules,) = (unpacked / "lib" / "modules").iterdir()
        (output / "initramfs.gz").write_bytes(_initramfs(modules))
        _disk(output / "disk.img", Path(scratch) / "root")
        shutil.rmtree(folder, ignore_errors=True)
        output.rename(folder)
    return find()


def _kernel_package() -> str:
    """Name of the newest kernel package of this Debian release, with its version."""
    listed = subprocess.run(["apt-cache", "show", METAPACKAGE], capture_output=True, text=True, check=True).stdout
    depends = next(line for line in listed.splitlines() if line.startswith("Depends: "))
    return depends.removeprefix("Depends: ").split(",")[0].replace(" (= ", "=").rstrip(")").split(" ")[0]


def _folder() -> Path:
    release = platform.freedesktop_os_release()
    digest = hashlib.sha256(f"{release['ID']} {release.get('VERSION_ID', '')}".encode())
    for name in ("containerd", "runc", "cni", KUBERNETES):
        digest.update(cluster.COMPONENTS[name].key().encode())
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            digest.update(path.read_bytes())
    return cluster.cache_dir() / "guest" / digest.hexdigest()[:16]


def _unpack(target: Path) -> str:
    """Unpack the kernel's package, and return its name and version.

    Mirrors and proxies fail for a moment now and then. And the lists of this machine may be missing, or so old that a
    mirror does not have any more what they name; so they are renewed before it is tried again.
    """
    for pause in (*PAUSES, None):
        try:
            return _downloaded(target)
        except (subprocess.CalledProcessError, StopIteration, ValueError):
            if pause is None:
                raise
            print(f"build.py: no kernel yet, trying again in {pause} s with new lists", file=sys.stderr, flush=True)
            time.sleep(pause)
            subprocess.run(["apt-get", "-qq", "-o", "Acquire::Retries=3", "update"], check=False)
    raise AssertionError


def _downloaded(target: Path) -> str:
    package = _kernel_package()
    with tempfile.TemporaryDirectory() as folder:
        # the sandbox user of apt may not write into our folder
        options = ["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
        subprocess.run(["apt-get", "-qq", *options, "download", package], cwd=folder, check=True)
        (archive,) = Path(folder).glob("*.deb")
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
    return package


def _needed(folder: Path) -> list[tuple[str, bytes]]:
    """Return the modules and what they depend on, in the order of loading.

    Dependencies stand in the `depends=` entry of a module's .modinfo section, so no depmod is needed.
    """
    files = {path.name.split(".ko")[0].replace("-", "_"): path for path in folder.rglob("*.ko*")}
    found: dict[str, bytes] = {}
    order: list[str] = []

    def need(name: str) -> None:
        name = name.replace("-", "_")
        if name in found or name not in files:  # a part of the kernel itself
            return
        raw = files[name].read_bytes()
        found[name] = raw = lzma.decompress(raw) if files[name].suffix == ".xz" else raw
        start = raw.find(b"\0depends=") + len(b"\0depends=")
        for dependency in raw[start : raw.find(b"\0", start)].decode().split(","):
            if dependency:
                need(dependency)
        order.append(name)

    for name in MODULES:
        need(name)
    return [(name, found[name]) for name in order]


def _initramfs(modules: Path) -> bytes:
    loaded = _needed(modules)
    entries = [(name, b"", 0o40755, (0, 0)) for name in ("bin", "dev", "proc", "sys", "m", "r")]
    entries += [
        ("dev/console", b"", 0o20600, (5, 1)),
        ("bin/busybox", BUSYBOX.read_bytes(), 0o100755, (0, 0)),
        ("init", (HERE / "guest" / "initramfs").read_bytes(), 0o100755, (0, 0)),
        ("m/order", "\n".join(f"{name}.ko" for name, _ in loaded).encode(), 0o100644, (0, 0)),
    ]
    entries += [(f"m/{name}.ko", raw, 0o100644, (0, 0)) for name, raw in loaded]
    return gzip.compress(_cpio(entries), 1)


def _cpio(entries: Iterable[tuple[str, bytes, int, tuple[int, int]]]) -> bytes:
    """Pack (name, content, mode, device) entries in the `newc` form (buffer-format of initramfs)."""
    out = bytearray()
    for number, (name, data, mode, device) in enumerate([*entries, ("TRAILER!!!", b"", 0, (0, 0))], 1):
        text = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(text), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + text
        out += bytes(-len(out) % 4) + data
        out += bytes(-len(out) % 4)
    return bytes(out)


def _disk(path: Path, tree: Path) -> None:
    """Write the guest's disk, a sparse ext4 file system."""
    for name in ("guest/bin", "guest/sbin", "guest/conf", "usr", "etc/cni", "proc", "sys", "dev", "run", "tmp", "root",
                 "var/log", "var/lib/kubelet", "opt", "mnt"):  # fmt: skip
        (tree / name).mkdir(parents=True)
    for name, target in (
        ("bin", "usr/bin"),
        ("sbin", "usr/sbin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib64"),
        ("var/run", "/run"),
    ):
        (tree / name).symlink_to(target)
    shutil.copy(BUSYBOX, tree / "guest" / "busybox")
    for name in ("init", "sh", "ip", "hostname", "poweroff"):
        (tree / "guest" / "sbin" / name).symlink_to("/guest/busybox")
    for name in SCRIPTS:
        shutil.copy(HERE / "guest" / name, tree / "guest" / name)
    shutil.copy(HERE / "guest" / "inittab", tree / "etc" / "inittab")
    for component in ("containerd", "runc", KUBERNETES):
        for binary in cluster.COMPONENTS[component].binaries:
            if not binary.startswith("kube-"):  # the control plane stays outside
                shutil.copy(cluster.find(component) / binary, tree / "guest" / "bin")
    shutil.copytree(cluster.find("cni"), tree / "guest" / "cni")
    for name, text in (
        ("passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("group", "root:x:0:\n"),
        ("hosts", "127.0.0.1 localhost\n"),
        ("resolv.conf", ""),
        ("nsswitch.conf", "hosts: files\n"),
        ("os-release", "ID=guest\nNAME=guest\nPRETTY_NAME=guest\n"),
    ):
        (tree / "etc" / name).write_text(text)
    command = ["mke2fs", "-q", "-t", "ext4", "-E", "root_owner=0:0,lazy_itable_init=1,lazy_journal_init=1", "-O",
               "^metadata_csum", "-d", str(tree), str(path), DISK]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"})


if __name__ == "__main__":
    print(build().disk.parent)
