# SPDX-License-Identifier: Apache-2.0
"""Builtin types as Schemas, read from the source text of the lightkube models.

The models are generated from Kubernetes' OpenAPI: annotations give fields and types, docstrings the descriptions. The
text is read, not imported: that takes a tenth of the time, and only the types that a run uses are ever looked at.
What the models leave out stands in `markers`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from dynamic_memory.embedded.apiserver.builtin.defaults import DEFAULTS
from dynamic_memory.embedded.apiserver.builtin.extra import EXTRA_FIELDS
from dynamic_memory.embedded.apiserver.builtin.markers import MARKERS
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema
from dynamic_memory.errors import NeverError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["component", "folder", "schema_of"]

_CLASS: Final = re.compile(r"^class (\w+)\(DictMixin\):\n", re.MULTILINE)
_ALIAS: Final = re.compile(r"^(\w+) = (\w+)", re.MULTILINE)
_FIELD: Final = re.compile(r"^    (\w+): '(.+?)'(?: = (.*))?$", re.MULTILINE)
_JSON_NAME: Final = re.compile(r'"json": "([^"]+)"')
_PARAMETER: Final = re.compile(r"^      \* \*\*(\w+)\*\* ``.*?`` - ", re.MULTILINE)
_SPECIAL_GROUPS: Final = {
    "meta_v1": "io.k8s.apimachinery.pkg.apis.meta.v1",
    "apiextensions_v1": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
    "resource": "io.k8s.apimachinery.pkg.api.resource",
    "runtime": "io.k8s.apimachinery.pkg.runtime",
    "util_intstr": "io.k8s.apimachinery.pkg.util.intstr",
}
_SCALARS: Final = {
    "str": Schema("string"),
    "int": Schema("integer", format="int32"),
    "float": Schema("number", format="double"),
    "bool": Schema("boolean"),
    "Any": Schema(preserve_unknown=True),
}
_META: Final = _SPECIAL_GROUPS["meta_v1"]
_NAMED: Final = {
    "meta_v1.Time": Schema("string", format="date-time", nullable=True, ref=f"{_META}.Time"),
    "meta_v1.MicroTime": Schema("string", format="date-time", nullable=True, ref=f"{_META}.MicroTime"),
    "meta_v1.FieldsV1": Schema("object", preserve_unknown=True, map_type="atomic", ref=f"{_META}.FieldsV1"),
    "meta_v1.Patch": Schema("object", preserve_unknown=True, ref=f"{_META}.Patch"),
    "runtime.RawExtension": Schema("object", preserve_unknown=True, ref="io.k8s.apimachinery.pkg.runtime.RawExtension"),
    "resource.Quantity": Schema("string", quantity=True, ref="io.k8s.apimachinery.pkg.api.resource.Quantity"),
    "util_intstr.IntOrString": Schema(
        int_or_string=True, format="int-or-string", ref="io.k8s.apimachinery.pkg.util.intstr.IntOrString"
    ),
}


@functools.cache
def folder() -> Path:
    """Return where the package of the models is installed.

    Raises:
        NeverError: it is not.

    """
    found = importlib.util.find_spec("lightkube")
    if found is None or not found.submodule_search_locations:
        raise NeverError("the package lightkube is not installed")
    for place in found.submodule_search_locations:
        if (Path(place) / "models" / "core_v1.py").is_file():
            return Path(place)
    raise NeverError("the package lightkube-models is not installed")


def component(module: str, name: str) -> str:
    """Return the OpenAPI name of a type."""
    group, _, version = module.rpartition("_")
    return f"{_SPECIAL_GROUPS.get(module) or f'io.k8s.api.{group}.{version}'}.{name}"


class _Module:
    """The text of one module of models, cut into classes."""

    def __init__(self, name: str) -> None:
        self.text = (folder() / "models" / f"{name}.py").read_text(encoding="utf-8")
        starts = [(match[1], match.end()) for match in _CLASS.finditer(self.text)]
        ends = [start for _, start in starts[1:]] + [len(self.text)]
        self.classes = {name: (start, end) for (name, start), end in zip(starts, ends, strict=True)}
        self.aliases = {match[1]: match[2] for match in _ALIAS.finditer(self.text)}


_modules = functools.cache(_Module)


def _plain(text: str) -> str:
    """Undo the wrapping of a docstring: lines of a paragraph join, empty lines stay."""
    paragraphs = re.split(r"\n\s*\n", text.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _documents(body: str) -> tuple[str, dict[str, str]]:
    """Return the description of a type and those of its fields, by the names of the model."""
    start = body.find('"""')
    end = body.find('"""', start + 3)
    text = body[start + 3 : end]
    head, _, rest = text.partition("**parameters**")
    found = list(_PARAMETER.finditer(rest))
    ends = [match.start() for match in found[1:]] + [len(rest)]
    texts = {match[1]: _plain(rest[match.end() : stop]) for match, stop in zip(found, ends, strict=True)}
    return _plain(head), texts


def _fields(body: str) -> Iterator[tuple[str, str, str, bool]]:
    """Yield name in the model, name in JSON, type, and whether it must be there."""
    for name, annotation, default in _FIELD.findall(body):
        json_name = _JSON_NAME.search(default)
        optional = annotation.startswith("Optional[")
        yield name, json_name[1] if json_name else name, annotation[9:-1] if optional else annotation, not optional


def _marks(module: str, name: str) -> tuple[bool, dict[str, dict[str, str]]]:
    """Return whether the type is atomic, and the marks of its fields."""
    atomic, marks = False, {}
    for entry in filter(None, MARKERS.get(f"{module}.{name}", "").split("; ")):
        field, *words = entry.split()
        if field == "atomic" and not words:
            atomic = True
        else:
            marks[field] = dict(word.partition(":")[::2] for word in words)
    return atomic, marks


@functools.cache
def schema_of(module: str, name: str) -> Schema:
    """Return the Schema of a type, such as `core_v1`, `Pod`; one object for each type.

    Raises:
        NeverError: there is no such type.

    """
    return _build(module, name)


_built: dict[tuple[str, str], Schema] = {}


def _build(module: str, name: str) -> Schema:
    known = _NAMED.get(f"{module}.{name}") or _built.get((module, name))
    if known is not None:
        return known
    text = _modules(module)
    if name not in text.classes:
        alias = text.aliases.get(name)
        if alias is None:
            raise NeverError(f"no type {name} in the models of {module}")
        made = Schema(preserve_unknown=True) if alias == "Any" else Schema("object", ref=component(module, name))
        _built[module, name] = made
        return made
    start, end = text.classes[name]
    body = text.text[start:end]
    description, texts = _documents(body)
    atomic, marks = _marks(module, name)
    fields = list(_fields(body))
    made = Schema(
        "object",
        description,
        required=frozenset(field for _, field, _, required in fields if required),
        map_type="atomic" if atomic else "",
        ref=component(module, name),
    )
    _built[module, name] = made
    for model_name, field, annotation, _ in fields:
        node = _typed(module, annotation, marks.get(field, {}))
        # a struct in Go is there even if it is empty
        empty: Any = {} if field == "status" and annotation == f"{name}Status" else MISSING
        default = DEFAULTS.get(f"{module}.{name}.{field}", empty)
        made.properties[field] = dataclasses.replace(
            node, description=texts.get(model_name) or node.description, default=default
        )
    made.properties.update(EXTRA_FIELDS.get(f"{module}.{name}", {}))
    return made


def _typed(module: str, annotation: str, marks: dict[str, str]) -> Schema:
    """Return the Schema of an annotation with the marks of its field; the properties of named types are shared."""
    if annotation.startswith("List["):
        element = _typed(module, annotation[5:-1], {mark: "" for mark in ("int64", "double", "byte") if mark in marks})
        node = Schema("array", items=element)
    elif annotation == "dict":
        node = Schema("object", additional=_values(module, marks["of"]))
    else:
        node = _SCALARS.get(annotation) or _build(*_qualified(module, annotation))
    changes: dict[str, object] = {}
    if "map" in marks:
        changes["list_type"], changes["list_map_keys"] = "map", tuple(marks["map"].split(","))
    elif "set" in marks:
        changes["list_type"] = "set"
    if "key" in marks:
        changes["patch_merge_key"] = marks["key"]
    if "patch" in marks:
        changes["patch_strategy"] = marks["patch"]
    if "atomic" in marks:
        changes["map_type"] = "atomic"
    for form in ("int64", "double", "byte"):
        if form in marks and node.items is None:
            changes["format"] = form
    return dataclasses.replace(node, **changes) if changes else node  # type: ignore[arg-type] # names are of Schema


def _values(module: str, kind: str) -> Schema:
    if kind == "string":
        return _SCALARS["str"]
    if kind == "byte":
        return Schema("string", format="byte")
    if kind == "strings":
        return Schema("array", items=_SCALARS["str"])
    if kind == "Quantity":
        return _NAMED["resource.Quantity"]
    if kind == "Time":
        return _NAMED["meta_v1.Time"]
    return _build(module, kind)


def _qualified(module: str, annotation: str) -> tuple[str, str]:
    owner, dot, name = annotation.rpartition(".")
    return (owner, name) if dot else (module, name)
