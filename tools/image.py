#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make the container image, an OCI archive, without Docker and without a registry.

    python tools/image.py --output dist/dynamic-memory.tar

Three layers, each made once for each content of what decides it and kept in the cache folder, so that a change of our
source makes a few hundred kilobytes anew:

1. the interpreter that runs this script, its standard library and the shared libraries they load, with busybox for
   probes and for people (copied rather than taken from a distribution: it is what the tests ran with, and needs no
   network);
2. the packages of requirements/runtime.txt, by hash;
3. this package.

Modules are compiled beforehand, into files that are not checked against their source: roles start faster and write
nothing. Files have no owner, no time and a fixed order: the same content gives the same digest. Standard library only.
"""

from __future__ import annotations

import argparse
import compileall
import dataclasses
import hashlib
import io
import json
import os
import platform
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.gobuild import cache_dir  # noqa: E402 - found by the line above when this runs as a script

__all__ = ["Blob", "Tree", "image_name", "make_image", "write_archive"]

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
APPLETS = ("[", "cat", "env", "grep", "head", "id", "kill", "ls", "ps", "sh", "sleep", "tail", "test", "wget")
SHELL = Path("/bin/busybox")
USER = 65532
KEEP_SECONDS = 24 * 3600  # a layer that nobody asked for goes
PACKAGES = "opt/dynamic-memory/packages"
SOURCE = "opt/dynamic-memory/source"
# parts of the standard library that no role imports, and what only builds other software
LEFT_OUT = re.compile(
    r"(^|/)(__pycache__|test|tests|idlelib|tkinter|turtledemo|turtle\.py|ensurepip|lib2to3|pydoc_data|site-packages"
    r"|dist-packages|config-3[^/]*|_tkinter[^/]*|_test[^/]*|_ctypes_test[^/]*|xxlimited[^/]*"
    r"|curses|_curses[^/]*|readline\.[^/]*|nis\.[^/]*|ossaudiodev\.[^/]*|distutils)(/|$)"
)
# of the packages: stubs, C sources and tests, and the commands, which nobody calls
UNUSED = re.compile(r"(^|/)(__pycache__|bin|tests?)(/|$)|\.(pyi|pyx|pxd|c|h|hpp|proto)$")
LIBRARY = re.compile(r"(?:=> )?(/\S+) \(0x")


@dataclasses.dataclass(frozen=True)
class Blob:
    """A file of the archive, named by its digest."""

    path: Path
    digest: str
    size: int

    @classmethod
    def of(cls, path: Path) -> Blob:
        """Describe a file."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return cls(path, digest, path.stat().st_size)


class Tree:
    """The files of one layer, by path in the image without leading slash."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[tarfile.TarInfo, Path | bytes | None]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def folder(self, name: str, mode: int = 0o755) -> None:
        """Add an empty folder; those above a file come by themselves."""
        self._add(name, mode, kind=tarfile.DIRTYPE)

    def link(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._add(name, 0o777, kind=tarfile.SYMTYPE).linkname = target

    def data(self, name: str, data: bytes, mode: int = 0o644) -> None:
        """Add a file of this content."""
        self._add(name, mode, data).size = len(data)

    def file(self, name: str, path: Path) -> None:
        """Add a copy of a file; of its mode only whether it can be executed counts."""
        status = path.stat()
        self._add(name, 0o755 if status.st_mode & 0o100 else 0o644, path).size = status.st_size

    def copy(self, name: str, folder: Path, leave_out: re.Pattern[str]) -> None:
        """Add what is below `folder`, less the paths that match."""
        for path in sorted(folder.rglob("*")):
            relative = path.relative_to(folder).as_posix()
            if path.is_file() and not leave_out.search(relative):
                self.file(f"{name}/{relative}", path)

    def _add(
        self, name: str, mode: int, content: Path | bytes | None = None, kind: bytes = tarfile.REGTYPE
    ) -> tarfile.TarInfo:
        parent = name.rpartition("/")[0]
        if parent and parent not in self._entries:
            self.folder(parent)
        entry = tarfile.TarInfo(name)
        entry.mode, entry.type = mode, kind
        self._entries[name] = (entry, content)
        return entry

    def write(self, path: Path) -> None:
        """Write the layer: an uncompressed tar, because it is unpacked on the same machine more often than sent."""
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as archive:
            for _, (entry, content) in sorted(self._entries.items()):
                if isinstance(content, Path):
                    with content.open("rb") as file:
                        archive.addfile(entry, file)
                else:
                    archive.addfile(entry, io.BytesIO(content or b""))


def write_archive(path: Path, name: str, layers: Sequence[Blob], config: Mapping[str, Any]) -> None:
    """Write an OCI image archive of one image for this machine's architecture (OCI image-layout specification 1.0)."""
    settings = {
        "created": "1970-01-01T00:00:00Z",
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in layers]},
    }
    media = "application/vnd.oci.image"
    blobs: list[tuple[str, bytes | Path]] = [(layer.digest, layer.path) for layer in layers]

    def add(kind: str, content: Mapping[str, Any]) -> dict[str, Any]:
        data = json.dumps(content, sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs.append((digest, data))
        return {"mediaType": f"{media}.{kind}.v1+json", "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{media}.manifest.v1+json",
        "config": add("config", settings),
        "layers": [
            {"mediaType": f"{media}.layer.v1.tar", "digest": f"sha256:{layer.digest}", "size": layer.size}
            for layer in layers
        ],
    }
    names = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name.rpartition(":")[2]}
    index = {"schemaVersion": 2, "manifests": [{**add("manifest", manifest), "annotations": names}]}
    tree = Tree()
    tree.data("oci-layout", b'{"imageLayoutVersion": "1.0.0"}')
    tree.data("index.json", json.dumps(index, sort_keys=True).encode())
    for digest, content in blobs:
        if isinstance(content, Path):
            tree.file(f"blobs/sha256/{digest}", content)
        else:
            tree.data(f"blobs/sha256/{digest}", content)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    tree.write(scratch)
    scratch.replace(path)


def image_name() -> str:
    """Return the name that the manifests use."""
    text = (ROOT / "src/dynamic_memory/__init__.py").read_text()
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    assert found is not None  # noqa: S101 - our own file
    return f"localhost/dynamic-memory:{found[1]}"


def make_image(output: Path, cache: Path) -> None:
    """Make the image, taking from `cache` the layers whose ingredients did not change.

    Raises:
        subprocess.CalledProcessError: pip refused; its own message says why.

    """
    requirements = ROOT / "requirements" / "runtime.txt"
    source = sorted(path for path in (ROOT / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    _, libraries = _needed([Path(sys.executable).resolve(), *_dynamic().glob("*.so")])
    interpreter = [Path(sys.executable).resolve(), SHELL, *libraries]
    with tempfile.TemporaryDirectory() as scratch:
        layers = [
            _cached(cache, "interpreter", interpreter, _interpreter, Path(scratch)),
            _cached(cache, "packages", [Path(sys.executable).resolve(), requirements], _packages, Path(scratch)),
            _cached(cache, "source", [*source, ROOT / "LICENSE"], _source, Path(scratch)),
        ]
    config = {
        "User": f"{USER}:{USER}",
        "Env": [
            "PATH=/usr/local/bin:/usr/bin:/bin",
            f"PYTHONPATH=/{SOURCE}:/{PACKAGES}",
            "PYTHONDONTWRITEBYTECODE=1",
            "PYTHONUNBUFFERED=1",
        ],
        "Entrypoint": ["/usr/local/bin/dynamic-memory"],
        "WorkingDir": "/",
        "Labels": {
            "org.opencontainers.image.licenses": "Apache-2.0",
            "org.opencontainers.image.title": "dynamic-memory",
        },
    }
    write_archive(output, image_name(), layers, config)


def _cached(cache: Path, name: str, ingredients: Iterable[Path], make: Callable[[Path], Tree], scratch: Path) -> Blob:
    digest = hashlib.sha256(Path(__file__).read_bytes() + sys.version.encode())
    for path in ingredients:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path.name} {content}\n".encode())
    path = cache / f"{name}-{digest.hexdigest()[:16]}.tar"
    if not path.exists():
        print(f"image.py: making the layer `{name}`", file=sys.stderr, flush=True)
        folder = scratch / name
        folder.mkdir()
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}")
        make(folder).write(unfinished)
        unfinished.rename(path)
    path.touch()
    for old in cache.glob(f"{name}-*.tar"):
        if old.stat().st_mtime < time.time() - KEEP_SECONDS:
            old.unlink(missing_ok=True)
    return Blob.of(path)


def _dynamic() -> Path:
    """Return where the extension modules of the standard library are."""
    return Path(sysconfig.get_path("platstdlib")) / "lib-dynload"


def _interpreter(scratch: Path) -> Tree:
    """Make the layer of the interpreter: it finds its library by its own place, so it can live below /usr/local."""
    tree = Tree()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    executable = Path(sys.executable).resolve()
    library = scratch / "library"
    shutil.copytree(sysconfig.get_path("stdlib"), library, symlinks=True, ignore=_ignore(LEFT_OUT))
    dynamic = library / "lib-dynload"
    if not dynamic.exists():  # a distribution may keep it elsewhere
        shutil.copytree(_dynamic(), dynamic, ignore=_ignore(LEFT_OUT))
    _compile(library, f"/usr/local/lib/{version}")
    tree.copy(f"usr/local/lib/{version}", library, re.compile("(?!)"))
    tree.file(f"usr/local/bin/{version}", executable)
    for name in ("python", "python3"):
        tree.link(f"usr/local/bin/{name}", version)
    _add_libraries(tree, [executable, *dynamic.glob("*.so")])
    tree.file("bin/busybox", SHELL)
    for name in APPLETS:
        tree.link(f"bin/{name}", "busybox")
    tree.link("usr/bin/env", "../../bin/busybox")
    tree.data("etc/passwd", f"root:x:0:0::/:/bin/sh\nnonroot:x:{USER}:{USER}::/:/bin/sh\n".encode())
    tree.data("etc/group", f"root:x:0:\nnonroot:x:{USER}:\n".encode())
    tree.data("etc/nsswitch.conf", b"hosts: files dns\n")
    tree.folder("tmp", 0o1777)
    return tree


def _packages(scratch: Path) -> Tree:
    target = scratch / "packages"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
    pip += ["--retries", "10", "--timeout", "60"]
    command = [*pip, "--require-hashes", "--only-binary=:all:", "--no-deps", "--target", str(target), "--requirement"]
    subprocess.run([*command, str(ROOT / "requirements" / "runtime.txt")], check=True)
    for path in sorted(target.rglob("*"), reverse=True):
        if UNUSED.search(path.relative_to(target).as_posix()) and path.is_file():
            path.unlink()
    _compile(target, f"/{PACKAGES}")
    tree = Tree()
    tree.copy(PACKAGES, target, re.compile(r"(^|/)(RECORD|INSTALLER|REQUESTED|direct_url\.json)$"))
    _add_libraries(tree, target.rglob("*.so*"))
    return tree


def _source(scratch: Path) -> Tree:
    target = scratch / "source"
    shutil.copytree(ROOT / "src", target, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "deploy", target / "dynamic_memory" / "deploy")  # for the embedded cluster
    _compile(target, f"/{SOURCE}")
    tree = Tree()
    tree.copy(SOURCE, target, re.compile(r"\.pyi$"))
    tree.file("usr/share/doc/dynamic-memory/LICENSE", ROOT / "LICENSE")
    script = "#!/usr/local/bin/python3\nimport sys\n\nfrom dynamic_memory.cli import main\n\nsys.exit(main())\n"
    tree.data("usr/local/bin/dynamic-memory", script.encode(), 0o755)
    return tree


def _ignore(pattern: re.Pattern[str]) -> Callable[[str, list[str]], list[str]]:
    return lambda _, names: [name for name in names if pattern.search(name)]


def _compile(folder: Path, place: str) -> None:
    """Compile all modules below `folder`, which will be at `place`; what does not compile is data of its package."""
    compileall.compile_dir(
        folder,
        quiet=2,
        stripdir=folder,
        prependdir=place,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )


def _add_libraries(tree: Tree, binaries: Iterable[Path]) -> None:
    """Add what the dynamic loader would load for `binaries`, where it looks by itself: beside the C library.

    What the manylinux wheels may expect of any system (PEP 600) is in the layer of the interpreter already, for a part
    of it; the same file in two layers is the same file.
    """
    loader, libraries = _needed([Path(sys.executable).resolve()])
    home = next((path.parent for path in libraries if path.name.startswith("libc.so")), Path("/lib"))
    tree.file(str(loader).lstrip("/"), loader.resolve())
    _, needed = _needed(binaries)
    for path in {path.name: path for path in needed}.values():
        name = f"{home}/{path.name}".lstrip("/")
        if name not in tree:
            tree.file(name, path.resolve())


def _needed(binaries: Iterable[Path]) -> tuple[Path, list[Path]]:
    loader, found = Path(), set()
    for line in _ldd(binaries):
        if match := LIBRARY.search(line):
            path = Path(match[1])
            if "=>" in line:
                found.add(path)
            elif path.name.startswith("ld-"):
                loader = path
    return loader, sorted(found)


def _ldd(binaries: Iterable[Path]) -> Iterator[str]:
    names = sorted(str(path) for path in binaries if path.is_file())
    if names:
        done = subprocess.run(["ldd", *names], check=False, capture_output=True, text=True)
        yield from done.stdout.splitlines()


def main() -> int:
    """Make the image that the command line asks for."""
    parser = argparse.ArgumentParser(description="Make the container image, an OCI archive.")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    output = parser.parse_args().output
    if not SHELL.exists():
        print(f"image.py: {SHELL} is missing: run tools/cluster/prerequisites.sh", file=sys.stderr)
        return 1
    make_image(output, cache_dir() / "image")
    print(f"{output}: {image_name()}, {output.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
