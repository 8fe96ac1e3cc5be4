# SPDX-License-Identifier: Apache-2.0
"""JSON merge patches (RFC 7386): null deletes, objects are merged, everything else is replaced."""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.errors import bad_request

__all__ = ["apply", "merge"]


def apply(obj: dict[str, Any], patch: Any) -> dict[str, Any]:
    """Return an object after a patch.

    Raises:
        StatusError: 400, the patch is not an object.

    """
    if patch is None:
        raise bad_request("Invalid JSON Patch")
    if not isinstance(patch, dict):
        kind = {list: "array", str: "string", bool: "bool"}.get(type(patch), "number")
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
        )
    return merge(obj, patch)


def merge(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """Return an object with another merged into it; what the patch does not touch is shared."""
    result = dict(target)
    for name, item in patch.items():
        if item is None:
            result.pop(name, None)
        elif type(item) is dict:
            here = result.get(name)
            result[name] = merge(here if type(here) is dict else {}, item)
        elif type(item) is list:
            result[name] = _without_nulls(item)
        else:
            result[name] = item
    return result


def _without_nulls(items: list[Any]) -> list[Any]:
    """Return a list without null fields in its objects: Kubernetes takes those out, nulls themselves not."""
    return [
        merge({}, item) if type(item) is dict else _without_nulls(item) if type(item) is list else item
        for item in items
    ]
