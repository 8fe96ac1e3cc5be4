# SPDX-License-Identifier: Apache-2.0
"""Objects as the pipeline sees them, without a server: decoded, completed, checked."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.decoding import decode
from dynamic_memory.embedded.apiserver.resource import Context, Registry, Resource
from dynamic_memory.embedded.apiserver.validation import check_create, check_update, complete

__all__ = ["changed", "complaints", "made", "registry", "resource", "table", "update_complaints"]

TABLES = Path(__file__).parents[1] / "apiserver" / "tables"
NOW = "2026-01-01T00:00:00Z"


@functools.cache
def registry() -> Registry:
    """Return one registry of builtin kinds; not to be changed."""
    return builtin_registry()


def resource(api_version: str, kind: str) -> Resource:
    """Return the resource of a kind."""
    group, _, version = api_version.rpartition("/")
    found = registry().find_kind(group, version, kind)
    assert found is not None, f"{api_version} {kind} is not served"
    return found


def made(text: str | dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return an object as it is stored when it is created: `spec__replicas=3` sets a field."""
    obj = yaml.safe_load(text) if isinstance(text, str) else copy.deepcopy(text)
    obj.setdefault("metadata", {}).setdefault("name", "a")
    changed(obj, **changes)
    of = resource(obj["apiVersion"], obj["kind"])
    obj, problems = decode(of, obj)
    assert problems == []
    obj["metadata"].setdefault("uid", "2b1d6a52-7d1c-4dc8-9b5a-8e6b0d3f0c11")
    context = Context(now=NOW, resource=of)
    return of.strategy.prepare_create(of.strategy.admit(complete(of, obj), context, "", None), context)


def changed(obj: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Set fields by path in place (`spec__devices__requests__0__name`); None removes one."""
    for path, value in changes.items():
        *steps, last = path.split("__")
        target: Any = obj
        for step in steps:
            target = target[int(step)] if isinstance(target, list) else target.setdefault(step, {})
        if isinstance(target, list):
            target[int(last)] = value
        elif value is None:
            target.pop(last, None)
        else:
            target[last] = value
    return obj


def complaints(text: str | dict[str, Any], **changes: Any) -> list[str]:
    """Return what is wrong with a new object, as `path: message`."""
    obj = made(text, **changes)
    return [f"{cause.field}: {cause.message}" for cause in check_create(resource(obj["apiVersion"], obj["kind"]), obj)]


def update_complaints(old: dict[str, Any], subresource: str | None = None, **changes: Any) -> list[str]:
    """Return what is wrong with a change of an object."""
    of = resource(old["apiVersion"], old["kind"])
    new = complete(of, decode(of, changed(copy.deepcopy(old), **changes))[0])
    new = of.strategy.prepare_update(new, copy.deepcopy(old), Context(now=NOW, resource=of), subresource)
    return [f"{cause.field}: {cause.message}" for cause in check_update(of, new, old, subresource)]


def table(name: str) -> list[tuple[Any, ...]]:
    """Return the rows of a table of cases, each with its values in the order of their names in the file."""
    text = (TABLES / f"{name}.yaml").read_text(encoding="utf-8")
    return [tuple(row.values()) for row in yaml.safe_load(text)]
