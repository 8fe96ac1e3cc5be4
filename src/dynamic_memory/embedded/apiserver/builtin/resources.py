# SPDX-License-Identifier: Apache-2.0
"""The builtin Resources, read from the source text of lightkube.resources.

Plural, scope, verbs and subresources stand there; `kinds` adds what does not. Nothing is imported, and the Schema of a
kind is built when it is first used.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from dynamic_memory.embedded.apiserver.builtin import kinds
from dynamic_memory.embedded.apiserver.builtin.models import folder, schema_of
from dynamic_memory.embedded.apiserver.resource import Resource, StorageKey, Subresource

__all__ = ["builtin_resources"]

_ENTRY: Final = re.compile(
    r"^class (?P<name>\w+)\(res\.(?P<base>\w+)(?:, m_(?P<module>\w+)\.(?P<model>\w+))?\):\n"
    r'    """.*?"""\n'
    r"    _api_info = res\.ApiInfo\(\n"
    r"        resource=res\.ResourceDef\('(?P<group>[^']*)', '(?P<version>[^']*)', '(?P<kind>[^']*)'\),\n"
    r"(?:        parent=res\.ResourceDef\('(?P<parent_group>[^']*)', '(?P<parent_version>[^']*)', '[^']*'\),\n)?"
    r"        plural='(?P<plural>[^']*)',\n"
    r"        verbs=\[(?P<verbs>[^\]]*)\],\n"
    r"(?:        action='(?P<action>[^']*)',\n)?",
    re.MULTILINE | re.DOTALL,
)
_VERBS: Final = {"post": "create", "put": "update", "global_list": "list", "global_watch": "watch"}
_SKIPPED: Final = frozenset({"componentstatuses"})


@dataclass(frozen=True, slots=True)
class _Entry:
    group: str
    version: str
    kind: str
    plural: str
    verbs: tuple[str, ...]
    action: str
    namespaced: bool
    module: str
    model: str
    parent_version: str


def _entries(module: str) -> Iterator[_Entry]:
    text = (folder() / "resources" / f"{module}.py").read_text(encoding="utf-8")
    for match in _ENTRY.finditer(text):
        words = [word.strip(" '") for word in match["verbs"].split(",")]
        yield _Entry(
            match["group"],
            match["version"],
            match["kind"],
            match["plural"],
            tuple(sorted({_VERBS.get(word, word) for word in words})),
            match["action"] or "",
            match["base"].startswith("Namespaced"),
            match["module"] or "",
            match["model"] or "",
            match["parent_version"] or "",
        )


def _storage(entry: _Entry) -> tuple[StorageKey, str]:
    """Return the store of a kind, and the version of what is in it."""
    if entry.group == "events.k8s.io":
        return StorageKey("", "events"), "v1"
    if entry.group == "resource.k8s.io":
        return StorageKey(entry.group, entry.plural), "v1"
    if entry.group == "autoscaling" and entry.plural == "horizontalpodautoscalers":
        return StorageKey(entry.group, entry.plural), "v2"
    return StorageKey(entry.group, entry.plural), entry.version


def _schema(module: str, model: str) -> Callable[[], object]:
    return functools.partial(schema_of, module, model)


def builtin_resources() -> list[Resource]:
    """Return every builtin Resource of Kubernetes' own groups, without strategies and conversions."""
    made: dict[tuple[str, str, str], Resource] = {}
    for module in kinds.MODULES:
        parts: list[_Entry] = []
        for entry in _entries(module):
            if entry.plural in _SKIPPED:
                continue
            if entry.action:
                parts.append(entry)
                continue
            storage, version = _storage(entry)
            stored = entry.kind not in kinds.NOT_STORED
            made[entry.group, entry.version, entry.plural] = Resource(
                entry.group,
                entry.version,
                entry.kind,
                entry.plural,
                entry.namespaced,
                short_names=kinds.SHORT_NAMES.get(entry.plural, ()),
                categories=kinds.CATEGORIES.get(entry.plural, ()),
                verbs=entry.verbs,
                storage=storage,
                storage_version=version,
                selectable_fields=frozenset(kinds.SELECTABLE.get((entry.group, entry.plural), ())),
                field_value=kinds.field_value,
                make_schema=functools.partial(schema_of, entry.module, entry.model),
                stored=stored,
            )
        for part in parts:
            _attach(made, module, part)
    for plural, extra in kinds.EXTRA_SUBRESOURCES.items():
        for name, kind, verbs in extra:
            made["", "v1", plural].subresources[name] = Subresource(kind, "", "v1", verbs)
    return list(made.values())


def _attach(made: dict[tuple[str, str, str], Resource], module: str, part: _Entry) -> None:
    """Give a resource its subresource: its parent is of the module's own group, its body may be of another."""
    version = part.parent_version or part.version
    for (_, parent_version, plural), resource in made.items():
        if plural == part.plural and parent_version == version and _in_module(resource, module):
            own = part.kind == resource.kind and part.group == resource.group
            schema = functools.partial(schema_of, part.module, part.model) if part.module and not own else None
            resource.subresources[part.action] = Subresource(part.kind, part.group, part.version, part.verbs, schema)
            return


def _in_module(resource: Resource, module: str) -> bool:
    stem = module.rpartition("_")[0]
    first = resource.group.partition(".")[0] or "core"
    return stem in (first, resource.group.removesuffix(".k8s.io").replace(".", "_"))
