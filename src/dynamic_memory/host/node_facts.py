# SPDX-License-Identifier: Apache-2.0
"""The facts that the preflight judges, read from a node below a root folder. Blocks for a few small files."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any

import msgspec

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host import containerd
from dynamic_memory.host.errors import HostError
from dynamic_memory.host.mounts import CgroupMounts, cgroup_mounts, parse_mountinfo
from dynamic_memory.host.preflight import NodeFacts
from dynamic_memory.host.topology import TopologyReader

__all__ = ["read_facts", "read_mounts", "read_runtime", "read_text"]

MAX_IMPORTS = 64


def read_facts(root: Path, *, cgroup_root: str | None = None, containerd: Path | None = None) -> NodeFacts:
    """Return what is known of a node.

    Args:
        root: folder in which `sys` and `proc` are.
        cgroup_root: where cgroup version 2 is to be looked for, as mountinfo names it.
        containerd: its configuration file.

    """
    mounts = read_mounts(root, cgroup_root)
    try:
        nodes, why = len(TopologyReader(root).read().nodes), ""
    except HostError as error:
        nodes, why = 0, str(error)
    runtime, unclear = None, ""
    if containerd is not None:
        try:
            runtime = read_runtime(containerd)
        except InvalidInput as error:
            unclear = str(error)
    return NodeFacts(
        mounts=mounts,
        controllers=_controllers(root, mounts),
        runtime=runtime,
        runtime_path=str(containerd or ""),
        runtime_error=unclear,
        topology_error=why,
        nodes=nodes,
    )


def read_mounts(root: Path, cgroup_root: str | None = None) -> CgroupMounts:
    """Return how cgroups are mounted: as this thread sees it, or as a tree of files says."""
    for name in ("thread-self", "self"):
        try:
            text = (root / "proc" / name / "mountinfo").read_text(errors="replace")
        except OSError:
            continue
        return cgroup_mounts(parse_mountinfo(text), cgroup_root)
    return cgroup_mounts([])


def read_runtime(path: Path) -> containerd.RuntimeFacts | None:
    """Return what containerd's configuration means, imported files included; None if it cannot be read.

    Raises:
        InvalidInput: it is not TOML in UTF-8, or of a version that is not known.

    """
    try:
        texts = {path: read_text(path)}
    except OSError:
        return None
    config = containerd.parse(texts[path], str(path))
    for found in _imports(path, config)[:MAX_IMPORTS]:
        try:
            texts[found] = read_text(found)
        except OSError as error:
            raise InvalidInput(f"{path}: imports", "files that can be read", str(found)) from error
        config = containerd.merge_import(config, containerd.parse(texts[found], str(found)))
    facts = containerd.runtime_facts(config)
    places = {key: _place(path, texts, key, facts.version) for key in containerd.SWITCHES}
    return msgspec.structs.replace(
        facts,
        path=str(path),
        places={key: text for key, (_, text) in places.items()},
        imported=frozenset(key for key, (file, _) in places.items() if file != path),
    )


def read_text(path: Path) -> str:
    """Return the text of a configuration file.

    Raises:
        InvalidInput: it is not UTF-8, which TOML is.
        OSError: it cannot be read.

    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(str(path), f"UTF-8 ({error})") from error


def _place(path: Path, texts: dict[Path, str], key: str, version: int) -> tuple[Path, str]:
    """Return the file in which a key is set, and the place for people: the last file counts."""
    plugin = containerd.switch_of(key, version)
    for file, text in reversed(texts.items()):
        line = containerd.find_line(text, plugin, key)
        if line is not None:
            return file, f"{file}, line {line}: {text.splitlines()[line - 1].strip()}"
        if version != containerd.NEWEST and file != path and containerd.has_section(containerd.parse(text), plugin):
            return file, (
                f"{file} does not set {key} in [plugins.'{plugin}'], and containerd 1.7 takes that section instead of "
                f"the one of {path}"
            )
    return path, f"{path} does not set {key} in [plugins.'{plugin}']"


def _imports(path: Path, config: dict[str, Any]) -> list[Path]:
    patterns = config.get("imports", ())
    found: list[Path] = []
    for pattern in patterns if isinstance(patterns, list) else ():
        absolute = pattern if str(pattern).startswith("/") else str(path.parent / str(pattern))
        found += [Path(name) for name in sorted(glob.glob(absolute))]  # noqa: PTH207 - the pattern is absolute
    return found


def _controllers(root: Path, mounts: CgroupMounts) -> tuple[str, ...] | None:
    if not mounts.unified:
        return None
    try:
        return tuple((root / mounts.unified.lstrip("/") / "cgroup.controllers").read_text().split())
    except OSError:
        return None
