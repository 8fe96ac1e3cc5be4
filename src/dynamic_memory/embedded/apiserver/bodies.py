# SPDX-License-Identifier: Apache-2.0
"""Bodies of requests: JSON, YAML and protobuf in, plain values out, whatever a client sends.

Nesting is limited well below what the interpreter and everything behind this can recurse; YAML aliases are limited so
that a small document cannot become a huge one. Both are found in the events of the
YAML parser, before anything recurses or copies.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, cast

import msgspec

from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request, unsupported_media_type

__all__ = ["ACCEPTED", "PROTOBUF", "checked", "decode_json", "decode_object", "decode_yaml", "may_repeat"]

PROTOBUF = "application/vnd.kubernetes.protobuf"
ACCEPTED = ("application/json", "application/yaml", PROTOBUF)
DEPTH = 200
NODES = 1_000_000
ALIASED = 100_000
"""Nodes that aliases and merge keys (`<<`) may stand for, in one document."""
_SHOWN = 40


def decode_json(body: bytes, what: str = "") -> Any:
    """Return the value of a JSON document.

    Raises:
        StatusError: 400, it is none, or it is nested too deep.

    """
    try:
        _limit_depth(body)
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(what, f"json parse error: {error}", body) from error


def decode_yaml(body: bytes, what: str = "") -> Any:
    """Return the value of a YAML document, which may be JSON.

    Raises:
        StatusError: 400, it is none, has several documents, or becomes too large.

    """
    if body.lstrip()[:1] in {b"{", b"["}:
        try:
            _limit_depth(body)
            return msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    import yaml  # noqa: PLC0415 - most requests are JSON

    try:
        _limit_yaml(yaml.parse(body, _loader()))
        return _plain(yaml.load(body, _loader()), _Budget(), 0)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise _unreadable(what, f"yaml: {text}", body) from error


def decode_object(
    body: bytes, media_type: str, kind: str, protobuf: Callable[[bytes], dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the object of a body.

    Args:
        body: as it came.
        media_type: of the body; empty is JSON.
        kind: what is expected, for messages.
        protobuf: decodes protobuf; None = not accepted here.

    Raises:
        StatusError: 415, the format is not known; 400, it cannot be read or is no object.

    """
    if media_type == PROTOBUF and protobuf is not None:
        return protobuf(body)
    if media_type in {"", "application/json"}:
        value = decode_json(body, kind)
    elif media_type in {"application/yaml", "application/x-yaml", "text/yaml"}:
        value = decode_yaml(body, kind)
    else:
        raise unsupported_media_type(ACCEPTED if protobuf is not None else ACCEPTED[:2])
    if not isinstance(value, dict):
        raise _unreadable(kind, f"cannot unmarshal {_type(value)} into an object", body)
    return value


def may_repeat(body: bytes, value: Any) -> bool:
    """Say whether a name can be in an object of a JSON document twice: cheap, and right when it says no.

    Args:
        body: the document.
        value: as decoded, where a name that was there twice is once.

    """
    # each name has `":` behind it, or the same with a space between
    return body.count(b'":') != _names(value) or _SPACED(body) is not None


_SPACED = re.compile(rb'"[ \t\r\n]+:').search


def _names(value: Any) -> int:
    if type(value) is dict:
        return len(value) + sum([_names(item) for item in value.values() if type(item) in _CONTAINERS])
    return sum([_names(item) for item in value if type(item) in _CONTAINERS]) if type(value) is list else 0


_CONTAINERS = frozenset({dict, list})


def checked(value: Any, kind: str) -> dict[str, Any]:
    """Return an object of a kind that no schema here reads, if its outermost fields have their types.

    Raises:
        StatusError: 400, it is none.

    """
    if not isinstance(value, dict):
        raise _wrong(kind, value, kind, kind)
    for name in ("kind", "apiVersion"):
        _check(kind, value.get(name), f"{kind}.{name}", "string")
    for name in ("spec", "status"):
        _check(kind, value.get(name), f"{kind}.{name}", f"v1.{kind}{name.title()}")
    _check(kind, value.get("metadata"), f"{kind}.metadata", "v1.ObjectMeta")
    metadata = value.get("metadata") or {}
    for name in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        _check(kind, metadata.get(name), f"ObjectMeta.metadata.{name}", "string")
    for name in ("labels", "annotations"):
        _check(kind, metadata.get(name), f"ObjectMeta.metadata.{name}", "map[string]string")
        for text in (metadata.get(name) or {}).values():
            _check(kind, text, f"ObjectMeta.metadata.{name}", "string")
    return value


def _check(kind: str, value: Any, field: str, wanted: str) -> None:
    if value is not None and not isinstance(value, str if wanted == "string" else dict):
        raise _wrong(kind, value, field, wanted)


def _wrong(kind: str, value: Any, field: str, wanted: str) -> StatusError:
    why = f"json: cannot unmarshal {_type(value)} into Go struct field {field} of type {wanted}"
    return bad_request(f'{kind} in version "v1" cannot be handled as a {kind}: {why}')


def _type(value: Any) -> str:
    return {dict: "object", list: "array", str: "string", bool: "bool", type(None): "null"}.get(type(value), "number")


def _unreadable(kind: str, why: str, body: bytes) -> StatusError:
    what = f" (must be of type {kind})" if kind else ""
    shown = body[:_SHOWN].decode(errors="replace")
    more = "…" if len(body) > _SHOWN else ""
    return bad_request(f"the object provided is unrecognized{what}: couldn't get version/kind; {why} ({shown!r}{more})")


_BRACKETS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


def _limit_depth(body: bytes) -> None:
    """Refuse deep nesting before anything recurses into it; cheap for ordinary bodies."""
    if body.count(b"{") + body.count(b"[") <= DEPTH:
        return
    depth = 0
    for match in _BRACKETS.finditer(body):
        first = match.group()[:1]
        if first in b"[{":
            depth += 1
            if depth > DEPTH:
                raise bad_request(f"json: exceeded max depth of {DEPTH}")
        elif first in b"]}":
            depth -= 1


def _limit_yaml(events: Iterable[Any]) -> None:
    """Refuse YAML that is nested deep, or that aliases make large; the events come one by one, without recursion.

    Raises:
        ValueError: it is.

    """
    import yaml  # noqa: PLC0415 - as above

    sizes: dict[str | None, int] = {}  # nodes that an alias stands for; 0 while its collection is open
    open_: list[tuple[str | None, int]] = []  # anchors of open collections, and how many nodes were before them
    nodes = aliased = 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            open_.append((event.anchor, nodes))
            nodes += 1
            sizes[event.anchor] = 0
            if len(open_) > DEPTH:
                raise ValueError(f"exceeded max depth of {DEPTH}")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            # one of an open collection is a cycle
            size = sizes.get(event.anchor, 1) or ALIASED + 1
            nodes += size
            aliased += size
            if aliased > ALIASED:
                raise ValueError("document contains excessive aliasing")


class _Budget:
    def __init__(self) -> None:
        self.left = NODES

    def spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("document contains excessive aliasing")


def _plain(value: Any, budget: _Budget, depth: int) -> Any:
    """Copy what YAML made into plain JSON values; shared nodes become copies, cycles run out of depth."""
    budget.spend()
    if depth > DEPTH:
        raise ValueError(f"exceeded max depth of {DEPTH}")
    if isinstance(value, dict):
        return {_key(key): _plain(item, budget, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, budget, depth + 1) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError(f"a value of type {type(value).__name__} is not JSON")


def _key(key: Any) -> str:
    return key if isinstance(key, str) else json.dumps(key, default=str)


def _loader() -> Any:
    """Return a safe YAML loader that reads dates as text, as JSON has none."""
    global _Loader  # noqa: PLW0603 - made at first use
    if _Loader is None:
        import yaml  # noqa: PLC0415

        base = cast("Any", getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        resolvers = {
            first: [(tag, pattern) for tag, pattern in entries if tag != "tag:yaml.org,2002:timestamp"]
            for first, entries in base.yaml_implicit_resolvers.items()
        }
        _Loader = type("_JsonLoader", (base,), {"yaml_implicit_resolvers": resolvers})
    return _Loader


_Loader: Any = None
