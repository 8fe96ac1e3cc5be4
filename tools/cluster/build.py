#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build a real Kubernetes node from pinned Go modules, into a cache folder outside the tree.

Every program that a cluster test runs (API server, scheduler, kubelet, etcd, containerd, runc, CNI plugins) is a tool
dependency of one of the Go modules beside this file; go.sum pins every byte of source. A component is built once for
each content of its go.mod, go.sum and recipe: a second run finds the folder and does nothing.

    python3 tools/cluster/build.py                 build all, print the folders
    python3 tools/cluster/build.py kubernetes-1.37 build one

tools/gobuild.py says where the cache is. Standard library only, so that it runs before any virtual environment exists;
the tests import `find` from here.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tools.gobuild import NO_GO, cache_dir, compile_into  # noqa: E402 - found by the line above when run as a script

__all__ = ["COMPONENTS", "Component", "build", "cache_dir", "find"]

HERE = Path(__file__).resolve().parent
CONTAINERD = "github.com/containerd/containerd/v2/cmd"
CNI = "github.com/containernetworking/plugins/plugins"
KUBERNETES = ("kube-apiserver", "kube-scheduler", "kube-controller-manager", "kubelet", "kubectl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Component:
    """One Go module beside this file and the commands that are built from it."""

    name: str
    packages: tuple[str, ...]
    binaries: tuple[str, ...]
    ldflags: str = "-s -w"
    tags: str = ""
    cgo: bool = False

    def key(self) -> str:
        """Hash of all that decides the result: module files and recipe."""
        digest = hashlib.sha256(repr(self).encode())
        for file in ("go.mod", "go.sum"):
            digest.update((HERE / self.name / file).read_bytes())
        return digest.hexdigest()[:16]


def _kubernetes(version: str) -> Component:
    major, minor, _ = version.split(".")
    var = "k8s.io/component-base/version"
    stamp = f"-X {var}.gitVersion=v{version} -X {var}.gitMajor={major} -X {var}.gitMinor={minor}"
    return Component(
        name=f"kubernetes-{major}.{minor}",
        packages=tuple(f"k8s.io/kubernetes/cmd/{name}" for name in KUBERNETES),
        binaries=KUBERNETES,
        ldflags=f"-s -w {stamp}",
    )


COMPONENTS = {
    component.name: component
    for component in (
        Component(name="etcd", packages=("go.etcd.io/etcd/server/v3",), binaries=("etcd",)),
        Component(
            name="containerd",
            packages=tuple(f"{CONTAINERD}/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
            binaries=("containerd", "containerd-shim-runc-v2", "ctr"),
        ),
        # runc is the one that needs cgo: its first stage is C, and seccomp is a C library.
        Component(
            name="runc", packages=("github.com/opencontainers/runc",), binaries=("runc",), tags="seccomp", cgo=True
        ),
        Component(
            name="cni",
            packages=(f"{CNI}/main/loopback", f"{CNI}/main/bridge", f"{CNI}/ipam/host-local"),
            binaries=("loopback", "bridge", "host-local"),
        ),
        _kubernetes("1.36.3"),
        _kubernetes("1.37.0"),
    )
}


def find(name: str) -> Path:
    """Return the folder with the binaries of component `name`.

    Raises:
        FileNotFoundError: it was not built yet; the text says which command builds it.

    """
    component = COMPONENTS[name]
    folder = cache_dir() / "bin" / f"{name}-{component.key()}"
    missing = [binary for binary in component.binaries if not (folder / binary).is_file()]
    if missing:
        message = f"{folder} lacks {', '.join(missing)}: run `make cluster-bins` first"
        raise FileNotFoundError(message)
    return folder


def build(name: str) -> Path:
    """Build component `name` unless it is in the cache, and return its folder.

    Raises:
        subprocess.CalledProcessError: it does not build.

    """
    component = COMPONENTS[name]
    try:
        return find(name)
    except FileNotFoundError:
        pass
    folder = cache_dir() / "bin" / f"{name}-{component.key()}"
    tags = ["-tags", component.tags] if component.tags else []
    compile_into(
        folder,
        ["-ldflags", component.ldflags, *tags],
        packages=component.packages,
        output=component.binaries[0] if len(component.packages) == 1 else "",
        module=HERE / name,
        cgo=component.cgo,
    )
    return folder


def main() -> int:
    """Build what the command line names, or everything."""
    parser = argparse.ArgumentParser(description="Build the programs of a real Kubernetes node into the cache.")
    parser.add_argument("component", nargs="*", choices=[*COMPONENTS, []], help="default: all")
    names = parser.parse_args().component or list(COMPONENTS)
    if shutil.which("go") is None:
        print(f"build.py: {NO_GO}", file=sys.stderr)
        return 1
    for position, name in enumerate(names, 1):
        start = time.monotonic()
        print(f"[{position}/{len(names)}] {name} ...", flush=True)
        try:
            folder = build(name)
        except subprocess.CalledProcessError as error:
            print(f"build.py: {name} did not build (go exited {error.returncode})", file=sys.stderr)
            return 1
        print(f"[{position}/{len(names)}] {name} in {time.monotonic() - start:.0f} s: {folder}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
