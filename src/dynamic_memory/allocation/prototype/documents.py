# SPDX-License-Identifier: Apache-2.0
"""Text to documents: YAML or JSON, any number in a file, lists of objects flattened.

Files of a million devices are read document by document, so that a caller who turns each into something smaller never
holds them all. YAML can be a bomb: aliases of aliases are small on disk and huge for whoever walks through them. So as
soon as a text has aliases, the size of each document is counted with each alias in full before anyone else sees it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import msgspec
import yaml

from dynamic_memory.allocation.prototype.errors import DocumentError

__all__ = ["Document", "Readable", "read_documents"]

MAX_EXPANDED = 5_000_000
"""Values of one document, with every alias counted as often as it is used."""
MAX_DEPTH = 100
SAFE_DEPTH = 2000
"""What the parser can take."""
MAX_LINE = 64 << 20
"""Characters of a line of JSON."""


class Readable(Protocol):
    """An open text file, or anything that is read like one."""

    def read(self, size: int = -1, /) -> str:
        """Return the next `size` characters."""

    def readline(self, size: int = -1, /) -> str:
        """Return the next line, of at most `size` characters."""


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


_BRACKETS = re.compile(r"[\[\]{}]")
_MARKS = re.compile(r"(?:[-?:][ \t]+){50,}[-?:]?|(?<![-?: \t])(?:[-?:][ \t]*)+$")


class _Watched:
    """Passes text on, and notices whether it has aliases or nests deeply.

    The C parser ends the process if it recurses too far, so text that might make it do so must not reach it. Counting
    brackets and leading marks overestimates the depth, which does no harm at this limit.
    """

    def __init__(self, begin: str, text: Readable) -> None:
        self._begin = begin
        self._text = text
        self._depth = 0
        self._marks = 0
        self.anchors = False
        self.aliases = False
        self.deep = False

    def read(self, size: int = -1) -> str:
        chunk, self._begin = self._begin or self._text.read(size), ""
        self.anchors = self.anchors or "&" in chunk
        self.aliases = self.aliases or "*" in chunk
        self._count(chunk)
        return chunk

    def _count(self, chunk: str) -> None:
        opened = chunk.count("[") + chunk.count("{")
        if self._depth + opened > MAX_DEPTH:
            for match in _BRACKETS.finditer(chunk):
                self._depth = self._depth + 1 if match[0] in "[{" else max(self._depth - 1, 0)
                self._check(self._depth)
        else:
            self._depth = max(self._depth + opened - chunk.count("]") - chunk.count("}"), 0)
        for match in _MARKS.finditer(chunk):
            # Marks that go on from the last piece of text into this one count together.
            marks = len(match[0]) + (self._marks if match.start() == 0 else 0)
            self._marks = marks if match.end() == len(chunk) else 0
            self._check(marks // 2)

    def _check(self, depth: int) -> None:
        self.deep = self.deep or depth > MAX_DEPTH
        if depth > SAFE_DEPTH:
            raise RecursionError


def read_documents(text: str | Readable, source: str) -> Iterator[Document]:
    """Yield the objects of a text in order; `source` is how errors call it.

    An object is a mapping. Empty documents are passed over; lists, and objects of kind `List`, yield their items.

    Raises:
        DocumentError: it is not YAML, or something in it is not a mapping.

    """
    stream = io.StringIO(text) if isinstance(text, str) else text
    line, number = _first_line(stream), 0
    while _is_json(line):
        number += 1
        yield from _objects(msgspec.json.decode(line), source, number)
        line = _first_line(stream)
    # What is not JSON, one object a line, is YAML from there on.
    watched = _Watched(line, stream)
    try:
        for body in yaml.load_all(watched, Loader=_Loader):
            number += 1
            if watched.deep or (watched.anchors and watched.aliases):
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


def _first_line(stream: Readable) -> str:
    """Return the next line that is more than the end of a document; empty at the end of the text."""
    line = stream.readline(MAX_LINE)
    while line and line.strip() in {"", "---"}:
        line = stream.readline(MAX_LINE)
    return line


def _is_json(line: str) -> bool:
    """Tell whether a line is a whole object of JSON, which is much faster to read than YAML."""
    if not line.startswith("{"):
        return False
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.DecodeError, RecursionError):
        return False


def _objects(body: Any, source: str, number: int) -> Iterator[Document]:
    if body is None:
        return
    if isinstance(body, dict) and body.get("kind") == "List" and isinstance(body.get("items"), list):
        body = body["items"]
    if isinstance(body, list):
        for index, item in enumerate(body):
            if not isinstance(item, dict):
                raise DocumentError(source, number, f"[{index}]", "an object", _shown(item))
            yield from _objects(item, source, number)
        return
    if not isinstance(body, dict):
        raise DocumentError(source, number, "", "an object", _shown(body))
    yield Document(source, number, body)


def _shown(value: object) -> object:
    """Return a value to be shown in an error: not all of what may be large or deep."""
    return "a list" if isinstance(value, list) else value


def _check_size(body: Any, source: str, number: int) -> None:
    """Refuse a document that is too large, too deep, or contains itself, once its aliases are counted in full."""
    known: dict[int, int] = {}
    open_: set[int] = set()

    def size(value: Any, depth: int) -> int:
        if not isinstance(value, dict | list):
            return 1
        if id(value) in known:
            return known[id(value)]
        if id(value) in open_ or depth >= MAX_DEPTH:
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
