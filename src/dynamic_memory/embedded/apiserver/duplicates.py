# SPDX-License-Identifier: Apache-2.0
"""Names that a document has twice in one object: Python's reader keeps the last of them in silence. Pure.

The real server names them for `fieldValidation`, so the text is read once more; only a text that has some is read with
all of its names.
"""

from __future__ import annotations

import json
from typing import Any

from dynamic_memory.embedded.apiserver.pruning import MAX_PROBLEMS

__all__ = ["duplicate_fields"]


class _Duplicate(Exception):
    """A document has a name twice."""


def duplicate_fields(body: bytes) -> list[str]:
    """Return `duplicate field "…"` for each name that a JSON document has twice in one object."""

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            raise _Duplicate
        return made

    try:
        json.loads(body, object_pairs_hook=check)
    except _Duplicate:
        problems: list[str] = []
        _name_duplicates(json.loads(body, object_pairs_hook=_Pairs), "", problems)
        return problems[:MAX_PROBLEMS]
    except (ValueError, RecursionError):
        return []
    return []


class _Pairs(list[tuple[str, Any]]):
    """An object of JSON with every one of its names."""


def _name_duplicates(value: Any, path: str, problems: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for name, item in value:
            below = f"{path}.{name}" if path else name
            if name in seen and (text := f'duplicate field "{below}"') not in problems:
                problems.append(text)
            seen.add(name)
            _name_duplicates(item, below, problems)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _name_duplicates(item, f"{path}[{index}]", problems)
