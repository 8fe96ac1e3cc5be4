# SPDX-License-Identifier: Apache-2.0
"""Configuration files: YAML into typed settings, refused with file, line and what was expected.

A misspelt key that is silently ignored is the worst kind of configuration error, so unknown keys are refused. Sizes are
written as Kubernetes quantities (`512Mi`), times as seconds or with a unit (`1.5s`, `10m`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import parse_bytes

__all__ = ["Bytes", "ConfigError", "Seconds", "load", "loads"]

T = TypeVar("T")

MAX_SIZE = 1 << 20
_AT = re.compile(r"^(?P<what>.*?)(?: - at `(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(?P<key>.*)`")
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[\.\.\.\]")
_SECONDS = re.compile(r"(?P<number>\d+(?:\.\d+)?)(?P<unit>ms|s|m|h)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}


class Bytes(int):
    """A size in bytes, written as a number or a quantity."""


class Seconds(float):
    """A time in seconds, written as a number or with ms, s, m or h."""


class ConfigError(InvalidInput):
    """A configuration file is refused.

    Args:
        file: its name.
        line: 1-based line of the fault, 0 if the file as a whole is meant.
        path: the setting, `fabric.address`.
        expected: what was expected there.

    """

    def __init__(self, file: str, line: int, path: str, expected: str) -> None:
        self.file = file
        self.line = line
        super().__init__(path, expected)

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.path}: {self.expected}" if self.path else f"{where}: {self.expected}"


def load(path: Path | str, type_: type[T]) -> T:
    """Read the YAML file at `path` as `type_`.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or does not fit the type.

    """
    file = Path(path)
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), 0, "", f"cannot be read: {error.strerror}") from error
    return loads(data, type_, name=str(path))


def loads(data: bytes, type_: type[T], *, name: str = "configuration") -> T:
    """Decode YAML text as `type_`; `name` stands for the file in errors.

    Raises:
        ConfigError: the text is not YAML, or does not fit the type.

    """
    if len(data) > MAX_SIZE:
        raise ConfigError(name, 0, "", f"expected at most {MAX_SIZE} bytes, got {len(data)}")
    try:
        node, plain = _parse(name, data)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark is not None else 0
        raise ConfigError(name, line, "", f"expected YAML: {getattr(error, 'problem', error)}") from error
    try:
        return msgspec.convert(plain, type_, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise _located(name, node, str(error)) from error
    except InvalidInput as error:  # a check of the type itself, over several settings
        expected = str(error).removeprefix(f"{error.path}: ")
        raise ConfigError(name, _line(node, error.path)[0], error.path, expected) from error


def _parse(name: str, data: bytes) -> tuple[yaml.Node | None, Any]:
    """Return the document as nodes, which know their lines, and as plain data.

    libyaml is ten times as fast. Of what is no YAML, PyYAML's own parser gives the better account, and decides.
    """
    try:
        return _parse_by(getattr(yaml, "CSafeLoader", yaml.SafeLoader), name, data)
    except yaml.YAMLError:
        return _parse_by(yaml.SafeLoader, name, data)


def _parse_by(kind: Any, name: str, data: bytes) -> tuple[yaml.Node | None, Any]:
    loader = kind(data)
    try:
        node = loader.get_single_node()
        _refuse_repeated_keys(name, node)
        return node, loader.construct_document(node) if node is not None else {}
    finally:
        loader.dispose()


def _refuse_repeated_keys(name: str, node: yaml.Node | None) -> None:
    """YAML says that keys are unique; the loader would silently take the last one."""
    pending, seen = [node], set()
    while pending:
        each = pending.pop()
        if id(each) in seen:
            continue  # an alias
        seen.add(id(each))
        if isinstance(each, yaml.SequenceNode):
            pending += each.value
        elif isinstance(each, yaml.MappingNode):
            keys = set()
            for key, value in each.value:
                if isinstance(key, yaml.ScalarNode):
                    if key.value in keys:
                        raise ConfigError(name, key.start_mark.line + 1, key.value, "expected each key once")
                    keys.add(key.value)
                pending.append(value)


def _decode(type_: type, value: Any) -> Any:
    if type_ is Bytes:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError("expected a size such as 512Mi")
        try:
            return Bytes(parse_bytes(value))
        except InvalidInput:
            raise ValueError(f"expected a size such as 512Mi, got {value!r}") from None
    if type_ is Seconds:
        match = _SECONDS.fullmatch(str(value)) if not isinstance(value, bool) else None
        if match is None:
            raise ValueError(f"expected a time such as 1.5s or 10m, got {value!r}")
        return Seconds(float(match["number"]) * _UNITS[match["unit"]])
    if type_ is Path:
        if not isinstance(value, str):
            raise ValueError("expected a path")
        return Path(value)
    raise NotImplementedError(type_)


def _located(name: str, node: yaml.Node | None, message: str) -> ConfigError:
    """Turn msgspec's `… - at `$.a[0].b`` into a file, a line and a path."""
    match = _AT.match(message)
    what, path = (match["what"], match["path"] or "$") if match else (message, "$")
    shown = path.removeprefix("$").removeprefix(".")
    line, node = _line(node, shown)
    unknown = _UNKNOWN.fullmatch(what)
    if unknown:
        child = _child(node, unknown["key"])
        line = child[0].start_mark.line + 1 if child else line
        shown = f"{shown}.{unknown['key']}".removeprefix(".")
        what = "expected a documented key, this one is unknown"
    return ConfigError(name, line, shown, what[:1].lower() + what[1:])


def _line(node: yaml.Node | None, path: str) -> tuple[int, yaml.Node | None]:
    """Return the line of `a[0].b`, or of the last of its steps that the file has, and what stands there."""
    line = node.start_mark.line + 1 if node is not None else 1
    for step in _STEP.findall(path if path.startswith("[") else f".{path}"):
        child = _child(node, step[0] or (int(step[1]) if step[1] else None))
        if child is None:
            break
        key, node = child
        line = key.start_mark.line + 1
    return line, node


def _child(node: yaml.Node | None, step: str | int | None) -> tuple[yaml.Node, yaml.Node] | None:
    """Return the node whose line to show for a step, and the node to go on from."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == step:
                return key, value
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None
