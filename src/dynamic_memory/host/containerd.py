# SPDX-License-Identifier: Apache-2.0
"""containerd's configuration: what it means for claims of memory, and the text with what is needed turned on. Pure.

Version 3 (containerd 2) keeps the runtime's settings in `io.containerd.cri.v1.runtime`, version 2 (containerd 1.7) in
`io.containerd.grpc.v1.cri`. The hugetlb controller is off by default in both: the limits of the kubelet and of NRI
vanish without a word. NRI and CDI are on by default in containerd 2 and off in 1.7; the newest has no switch for CDI
any more, and warns of one.

Editing keeps the file as it is, comments included, and changes single lines; the result is parsed again before it is
believed.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from dynamic_memory.errors import InvalidInput

__all__ = [
    "NEWEST",
    "SWITCHES",
    "RuntimeFacts",
    "find_line",
    "has_section",
    "merge",
    "merge_import",
    "parse",
    "runtime_facts",
    "setup",
    "switch_of",
]

NRI = "io.containerd.nri.v1.nri"
RUNTIME = {3: "io.containerd.cri.v1.runtime", 2: "io.containerd.grpc.v1.cri"}
NEWEST = 3
CDI_DIRS = ("/etc/cdi", "/var/run/cdi")
SWITCHES = ("disable_hugetlb_controller", "disable", "enable_cdi")
"""Keys of the hugetlb controller, of NRI and of CDI."""
_HEADER = re.compile(r"^\s*\[(?P<name>[^\[\]]+)\]\s*(?:#.*)?$")
_KEY = re.compile(r"^(?P<indent>\s*)(?P<key>[A-Za-z0-9_-]+)\s*=")


class RuntimeFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What containerd does.

    Attributes:
        version: of its configuration.
        hugetlb_disabled: limits of huge pages are dropped.
        nri_disabled: plugins are not asked.
        cdi_disabled: CDI devices are not injected.
        cdi_dirs: where it looks for CDI files.
        path: of its configuration; empty if that is not known.
        places: where the keys of `SWITCHES` are set: file and line, or that they are not set there, by key.
        imported: keys of `SWITCHES` that an imported file sets: `setup` of the configuration does not change them.

    """

    version: int
    hugetlb_disabled: bool
    nri_disabled: bool
    cdi_disabled: bool
    cdi_dirs: tuple[str, ...] = CDI_DIRS
    path: str = ""
    places: dict[str, str] = {}
    imported: frozenset[str] = frozenset()


def parse(text: str, name: str = "config.toml") -> dict[str, Any]:
    """Return a configuration.

    Raises:
        InvalidInput: the text is not TOML.

    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(name, f"TOML ({error})") from error


def merge_import(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with what an imported file says on top.

    containerd 1.7 takes whole sections of plugins from the last file that has them (mergeConfig); containerd 2 merges
    them. In a configuration of version 2, which either may read, nothing is believed that 1.7 would not see.
    """
    result = merge(base, more)
    old, new = base.get("plugins"), more.get("plugins")
    if base.get("version") != NEWEST and isinstance(old, Mapping) and isinstance(new, Mapping):
        result["plugins"] = {**old, **new}
    return result


def merge(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration with another one on top, table by table."""
    result = dict(base)
    for key, value in more.items():
        before = result.get(key)
        result[key] = merge(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return result


def runtime_facts(config: Mapping[str, Any]) -> RuntimeFacts:
    """Return what a configuration means, with containerd's defaults for what it does not say.

    Raises:
        InvalidInput: it is of a version that is not known.

    """
    version = _version(config)
    new = version == NEWEST
    runtime = _table(config, RUNTIME[version])
    nri = _table(config, NRI)
    dirs = runtime.get("cdi_spec_dirs")
    return RuntimeFacts(
        version=version,
        hugetlb_disabled=bool(runtime.get("disable_hugetlb_controller", True)),
        nri_disabled=bool(nri.get("disable", not new)),
        cdi_disabled=not bool(runtime.get("enable_cdi", new)),
        cdi_dirs=tuple(str(folder) for folder in dirs) if isinstance(dirs, list) else CDI_DIRS,
    )


def switch_of(key: str, version: int) -> str:
    """Return the plugin whose table has a key of `SWITCHES`."""
    return NRI if key == "disable" else RUNTIME[version]


def has_section(config: Mapping[str, Any], plugin: str) -> bool:
    """Tell whether a file has a section of a plugin."""
    plugins = config.get("plugins")
    return isinstance(plugins, Mapping) and plugin in plugins


def find_line(text: str, plugin: str, key: str) -> int | None:
    """Return the number of the line, from 1, that sets a key in the table of a plugin; None if there is none."""
    lines = text.splitlines()
    header = _find_header(lines, plugin)
    for number in range(header + 1 if header is not None else len(lines), len(lines)):
        if lines[number].lstrip().startswith("["):
            break
        match = _KEY.match(lines[number])
        if match and match["key"] == key:
            return number + 1
    return None


def setup(text: str, name: str = "config.toml") -> str:
    """Return the configuration with NRI, CDI and the hugetlb controller on; the same text if they are.

    Raises:
        InvalidInput: the text is not a configuration, or is written in a form that cannot be edited line by line.

    """
    config = parse(text, name)
    if not text.strip():
        text = f"version = {NEWEST}\n"
        config = parse(text, name)
    version = _version(config)
    wanted: tuple[tuple[str, str, Any], ...] = (
        (RUNTIME[version], "disable_hugetlb_controller", False),
        (RUNTIME[version], "tolerate_missing_hugetlb_controller", False),
        (RUNTIME[version], "enable_cdi", True),
        (NRI, "disable", False),
    )
    for plugin, key, value in wanted:
        found = _table(parse(text, name), plugin).get(key)
        if found is value or (key == "enable_cdi" and version == NEWEST and found is None):
            continue
        text = _set(text, plugin, key, "true" if value else "false")
        try:
            done = _table(tomllib.loads(text), plugin).get(key) is value
        except tomllib.TOMLDecodeError:
            done = False
        if not done:
            raise InvalidInput(
                f"{name}: plugins.{plugin!r}.{key}",
                "a table with a header of its own; this form cannot be edited, so set it there to "
                f"{'true' if value else 'false'} by hand",
            )
    return text


def _version(config: Mapping[str, Any]) -> int:
    version = config.get("version", 1 if config else NEWEST)
    if not isinstance(version, int) or version not in RUNTIME:
        raise InvalidInput("version", "2 or 3, the versions of containerd 1.7 and 2", version)
    return int(version)


def _table(config: Mapping[str, Any], plugin: str) -> Mapping[str, Any]:
    plugins = config.get("plugins", {})
    table = plugins.get(plugin, {}) if isinstance(plugins, Mapping) else {}
    return table if isinstance(table, Mapping) else {}


def _set(text: str, plugin: str, key: str, value: str) -> str:
    """Change one line, or add it below its table's header, or add both at the end."""
    lines = text.splitlines()
    header = _find_header(lines, plugin)
    if header is None:
        gap = [""] if lines and lines[-1].strip() else []
        lines += [*gap, f"[plugins.'{plugin}']", f"  {key} = {value}"]
        return "\n".join(lines) + "\n"
    indent = "  "
    for number in range(header + 1, len(lines)):
        if lines[number].lstrip().startswith("["):
            break
        match = _KEY.match(lines[number])
        if match:
            indent = match["indent"]
            if match["key"] == key:
                lines[number] = f"{match['indent']}{key} = {value}"
                return "\n".join(lines) + "\n"
    lines.insert(header + 1, f"{indent}{key} = {value}")
    return "\n".join(lines) + "\n"


def _find_header(lines: list[str], plugin: str) -> int | None:
    for number, line in enumerate(lines):
        match = _HEADER.match(line)
        if match is None:
            continue
        try:
            table: Any = tomllib.loads(f"[{match['name']}]\n")
        except tomllib.TOMLDecodeError:
            continue
        if table == {"plugins": {plugin: {}}}:
            return number
    return None
