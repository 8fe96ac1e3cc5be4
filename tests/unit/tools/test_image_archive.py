# SPDX-License-Identifier: Apache-2.0
"""The image is made by hand: what a runtime expects of it, and that it comes out the same twice, is tried here."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
from tools import image
from tools.image import Blob, Tree, image_name, make_image, write_archive


def _layer(folder: Path, name: str, *entries: tuple[str, bytes]) -> Blob:
    tree = Tree()
    for path, data in entries:
        tree.data(path, data)
    tree.write(folder / name)
    return Blob.of(folder / name)


def _blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as file:
        return {entry.name: file.extractfile(entry).read() for entry in file if entry.isfile()}


def _names(layer: bytes | Path, tmp_path: Path) -> dict[str, tarfile.TarInfo]:
    path = layer if isinstance(layer, Path) else tmp_path / "names.tar"
    if isinstance(layer, bytes):
        path.write_bytes(layer)
    with tarfile.open(path) as file:
        return {entry.name: entry for entry in file}


def test_a_layer_does_not_depend_on_order_owner_or_time(tmp_path: Path):
    one = _layer(tmp_path, "one", ("a/x", b"1"), ("b", b"2"))
    other = _layer(tmp_path, "other", ("b", b"2"), ("a/x", b"1"))
    assert one.digest == other.digest
    assert {(entry.uid, entry.gid, entry.mtime) for entry in _names(tmp_path / "one", tmp_path).values()} == {(0, 0, 0)}


@pytest.mark.parametrize(("mode", "expected"), [(0o600, 0o644), (0o664, 0o644), (0o700, 0o755), (0o777, 0o755)])
def test_only_whether_a_file_is_executable_counts(tmp_path: Path, mode: int, expected: int):
    source = tmp_path / "source"
    source.write_bytes(b"x")
    source.chmod(mode)
    os.utime(source, (5, 5))
    tree = Tree()
    tree.file("usr/bin/tool", source)
    tree.write(tmp_path / "layer")
    entries = _names(tmp_path / "layer", tmp_path)
    assert entries["usr/bin/tool"].mode == expected
    assert list(entries) == ["usr", "usr/bin", "usr/bin/tool"], "folders come before what is in them"


def test_every_part_of_the_archive_is_found_by_its_digest(tmp_path: Path):
    layers = [_layer(tmp_path, "one", ("a", b"1")), _layer(tmp_path, "two", ("b", b"2"))]
    write_archive(tmp_path / "image.tar", "localhost/thing:7", layers, {"Entrypoint": ["/a"]})
    blobs = _blobs(tmp_path / "image.tar")
    assert json.loads(blobs["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in blobs.items():
        if name.startswith("blobs/"):
            assert name == f"blobs/sha256/{hashlib.sha256(data).hexdigest()}"

    def follow(descriptor):
        data = blobs["blobs/" + descriptor["digest"].replace(":", "/")]
        assert descriptor["size"] == len(data)
        return data

    (entry,) = json.loads(blobs["index.json"])["manifests"]
    assert entry["annotations"]["io.containerd.image.name"] == "localhost/thing:7"
    manifest = json.loads(follow(entry))
    config = json.loads(follow(manifest["config"]))
    assert config["config"] == {"Entrypoint": ["/a"]}
    assert config["rootfs"]["diff_ids"] == [layer["digest"] for layer in manifest["layers"]]
    assert [hashlib.sha256(follow(layer)).hexdigest() for layer in manifest["layers"]] == [
        each.digest for each in layers
    ]


def test_the_name_is_the_one_of_the_manifests():
    manifests = image.ROOT / "deploy"
    images = {
        word
        for path in manifests.glob("*.yaml")
        for line in path.read_text().splitlines()
        if "image:" in line
        for word in line.split()
        if "/" in word
    }
    assert images == {image_name()}


def test_a_change_of_our_source_makes_one_small_layer_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "root"
    (root / "src/dynamic_memory").mkdir(parents=True)
    (root / "requirements").mkdir()
    (root / "deploy").mkdir()
    module = root / "src/dynamic_memory/__init__.py"
    module.write_text('__version__ = "9.9.9"\n')
    (root / "requirements/runtime.txt").write_text("")
    (root / "LICENSE").write_text("")
    shell = tmp_path / "busybox"
    shell.write_bytes(b"x")
    made = []
    real = image._source

    def stub(name):
        def make(_: Path) -> Tree:
            made.append(name)
            tree = Tree()
            tree.data(name, b"x")
            return tree

        return make

    def source(scratch: Path) -> Tree:
        made.append("source")
        return real(scratch)

    monkeypatch.setattr(image, "ROOT", root)
    monkeypatch.setattr(image, "SHELL", shell)
    monkeypatch.setattr(image, "_interpreter", stub("interpreter"))
    monkeypatch.setattr(image, "_packages", stub("packages"))
    monkeypatch.setattr(image, "_source", source)
    monkeypatch.setattr(image, "_needed", lambda _: (shell, []))

    make_image(tmp_path / "1.tar", tmp_path / "cache")
    assert made == ["interpreter", "packages", "source"]
    make_image(tmp_path / "2.tar", tmp_path / "cache")
    assert made == ["interpreter", "packages", "source"]
    assert (tmp_path / "1.tar").read_bytes() == (tmp_path / "2.tar").read_bytes()
    module.write_text('__version__ = "9.9.9"\nX = 1\n')
    make_image(tmp_path / "3.tar", tmp_path / "cache")
    assert made[3:] == ["source"]
    one, three = _blobs(tmp_path / "1.tar"), _blobs(tmp_path / "3.tar")
    assert len(one.items() & three.items()) == 3, "the layout file and two layers"


def test_modules_are_compiled_and_not_checked_at_run_time(tmp_path: Path):
    tree = image._source(tmp_path)
    tree.write(tmp_path / "layer.tar")
    entries = _names(tmp_path / "layer.tar", tmp_path)
    compiled = [name for name in entries if name.endswith("dynamic_memory/__pycache__/__init__.cpython-311.pyc")]
    assert len(compiled) == 1
    with tarfile.open(tmp_path / "layer.tar") as file:
        header = file.extractfile(compiled[0]).read(8)
    assert header[4:] == (1).to_bytes(4, "little"), "PEP 552: by hash, unchecked"
    assert entries["usr/local/bin/dynamic-memory"].mode == 0o755
    assert not [name for name in entries if "tests" in name]


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("asyncio/base_events.py", True),
        ("unittest/case.py", True),
        ("test/test_os.py", False),
        ("ctypes/test/test_arrays.py", False),
        ("config-3.11-x86_64-linux-gnu/Makefile", False),
        ("lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", True),
        ("lib-dynload/_testcapi.cpython-311-x86_64-linux-gnu.so", False),
        ("site-packages/pip/__init__.py", False),
        ("__pycache__/os.cpython-311.pyc", False),
        ("turtle.py", False),
    ],
)
def test_what_of_the_standard_library_is_left_out(path: str, stays: bool):
    assert (image.LEFT_OUT.search(path) is None) is stays
