# SPDX-License-Identifier: Apache-2.0
"""Text to documents: YAML or JSON, any number in a file, lists of objects flattened.

Files of a million devices are read document by document, so that a caller who turns each into something smaller never
holds them all. YAML can be a bomb: aliases of aliases are small on disk and huge for whoever walks through them. So as
soon as a text has aliases, the size of each document is counted with each alias in full before anyone else sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
import yaml

from dynamic_memory.allocation.prototype.errors import DocumentError

__all__ = ["Document", "Readable", "read_documents"]

MAX_EXPANDED = 5_000_000
"""Values of one document, with every alias counted as often as it is used."""
MAX_DEPTH = 100


class Readable(Protocol):
    """An open text file, or anything that is read like one."""

    def read(self, size: int = -1, /) -> str:
        """Return the next `size` characters."""


class Document(NamedTuple):
    """One object as it was written."""

    source: str
    number: int
    body: dict[str, Any]

    def error(self, path: str, expected: str, got: object = None) -> DocumentError:
        """Return an error about a place in this document."""
        return DocumentError(self.source, self.number, path, expected, got)


_BASE: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BASE):  # type: ignore[misc] # the C loader where libyaml is there
    """YAML as Kubernetes reads it: a date is a string."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in _BASE.yaml_implicit_resolvers.items()
}


class _Watched:
    """Passes text on and notices whether it has aliases."""

    def __init__(self, text: str | Readable) -> None:
        self._text = text if not isinstance(text, str) else None
        self._rest = text if isinstance(text, str) else ""
        self.anchors = False
        self.aliases = False

    def read(self, size: int = -1) -> str:
        if self._text is None:
            chunk, self._rest = (self._rest, "") if size < 0 else (self._rest[:size], self._rest[size:])
        else:
            chunk = self._text.read(size)
        self.anchors = self.anchors or "&" in chunk
        self.aliases = self.aliases or "*" in chunk
        return chunk


def read_documents(text: str | Readable, source: str) -> Iterator[Document]:
    """Yield the objects of a text in order; `source` is how errors call it.

    An object is a mapping. Empty documents are passed over; lists, and objects of kind `List`, yield their items.

    Raises:
        DocumentError: it is not YAML, or something in it is not a mapping.

    """
    watched = _Watched(text)
    number = 0
    try:
        for body in yaml.load_all(watched, Loader=_Loader):  # noqa: S506 - derived from the safe loader
            number += 1
            if watched.anchors and watched.aliases:
                _check_size(body, source, number)
            yield from _objects(body, source, number)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        problem = error.problem or error.context or "it cannot be read"
        raise DocumentError(source, number + 1, "", f"YAML or JSON ({problem}{where})") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, msgspec.ValidationError):
            raise
        raise DocumentError(source, number + 1, "", f"YAML or JSON ({error})") from error
    except RecursionError as error:
        raise DocumentError(source, number + 1, "", "values that are nested less deeply") from error


def _objects(body: Any, source: str, number: int) -> Iterator[Document]:
    if body is None:
        return
    if isinstance(body, dict) and body.get("kind") == "List" and isinstance(body.get("items"), list):
        body = body["items"]
    if isinstance(body, list):
        for index, item in enumerate(body):
            if not isinstance(item, dict):
                raise DocumentError(source, number, f"[{index}]", "an object", item)
            yield from _objects(item, source, number)
        return
    if not isinstance(body, dict):
        raise DocumentError(source, number, "", "an object", body)
    yield Document(source, number, body)


def _check_size(body: Any, source: str, number: int) -> None:
    """Refuse a document that is too large, too deep, or contains itself, once its aliases are counted in full."""
    known: dict[int, int] = {}
    open_: set[int] = set()

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in known:
            return known[id(value)]
        if id(value) in open_ or depth > MAX_DEPTH:
            raise DocumentError(source, number, "", f"values that are nested at most {MAX_DEPTH} deep")
        open_.add(id(value))
        items = value.values() if isinstance(value, dict) else value
        total = 1 + sum(size(item, depth + 1) for item in items)
        open_.discard(id(value))
        known[id(value)] = total
        return total

    total = size(body, 0)
    if total > MAX_EXPANDED:
        raise DocumentError(source, number, "", f"at most {MAX_EXPANDED} values, counting aliases in full", total)
