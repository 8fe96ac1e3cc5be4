# SPDX-License-Identifier: Apache-2.0
"""From what a client sent to an object of a kind: unknown fields, types, nulls and canonical values. Pure.

Builtin kinds are read as the Go types of the real server read them: a null is as good as nothing, a wrong type is a
400 with the message of Go's decoder, quantities and times become canonical. Kinds of CRDs are only pruned; their types
are a matter of validation (422). Either way unknown fields go, and are named for `fieldValidation`.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request
from dynamic_memory.embedded.apiserver.schema import MISSING, Schema, clone
from dynamic_memory.errors import InvalidInput
from dynamic_memory.quantity import Quantity

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.resource import Resource

__all__ = ["apply_defaults", "canonical_quantity", "decode", "drop_nulls", "duplicate_fields", "pruned", "strict_error"]

_MAX_PROBLEMS: Final = 100
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MICRO_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_MICROS: Final = re.compile(r"\.\d{6}(?!\d)", re.ASCII)
_QUANTITY: Final = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
_GO_TYPES: Final = {"string": "string", "boolean": "bool", "number": "float64"}
_RANGE: Final = {"int32": 2**31, "int64": 2**63}


_OMITTED = ("labels", "annotations", "finalizers", "ownerReferences", "managedFields")
_EMPTY: tuple[dict[str, Any], list[Any]] = ({}, [])


def decode(resource: Resource, obj: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the object as the server holds it, and what strict decoding finds wrong (`unknown field "spec.x"`).

    Nothing is changed in place.

    Raises:
        StatusError: 400, a builtin kind with a field of the wrong type.

    """
    problems: list[str] = []
    schema = resource.schema
    if resource.builtin:
        if resource.kind == "ConfigMap" and not resource.group:
            obj = _texts(obj)
        reader = _Reader(problems)
        try:
            made = reader.read_object(schema, obj, "", resource.kind, ())
        except _Wrong as error:
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {error}'
            ) from None
        return _without_empty_metadata(made), problems
    made = _prune_root(schema, obj, problems, resource)
    return _without_empty_metadata(made), problems


def _without_empty_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    """Leave out labels, annotations and lists of metadata that are empty, as Go's encoder of metadata does."""
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not any(metadata.get(name) in _EMPTY for name in _OMITTED):
        return obj
    kept = {name: value for name, value in metadata.items() if name not in _OMITTED or value not in _EMPTY}
    return {**obj, "metadata": kept}


def _texts(obj: dict[str, Any]) -> dict[str, Any]:
    """Take numbers in the data of a ConfigMap for texts, which the real server does not.

    The prototype's files have one (`vlanID: 2000`) and must be storable as they are.
    """
    data = obj.get("data")
    if not isinstance(data, dict) or not any(isinstance(item, int | float) for item in data.values()):
        return obj
    texts = {name: json.dumps(item) if isinstance(item, int | float) else item for name, item in data.items()}
    return {**obj, "data": texts}


def strict_error(resource: Resource, problems: list[str]) -> StatusError:
    """Return the refusal of a body by strict field validation."""
    return bad_request(
        f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        f"strict decoding error: {', '.join(problems)}"
    )


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
        return problems[:_MAX_PROBLEMS]
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


class _Wrong(Exception):
    """A value that Go's decoder refuses."""


def _json_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def _go_type(schema: Schema) -> str:
    if schema.type == "integer":
        return schema.format or "int32"
    if schema.type == "array":
        return f"[]{_go_type(schema.items) if schema.items else 'string'}"
    if schema.additional is not None:
        return f"map[string]{_go_type(schema.additional)}"
    if schema.ref and schema.type == "object":
        group, version, name = ("", *schema.ref.rsplit(".", 2))[-3:]
        return f"{version}.{name}" if group else name
    return _GO_TYPES.get(schema.type, "string")


class _Reader:
    """Reads one body of a builtin kind."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def unknown(self, path: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(f'unknown field "{path}"')

    def read_object(
        self, schema: Schema, value: dict[str, Any], path: str, owner: str, fields: tuple[str, ...]
    ) -> dict[str, Any]:
        made: dict[str, Any] = {}
        properties, additional = schema.properties, schema.additional
        if not properties and additional is None and schema.preserve_unknown:
            return clone(value)  # type: ignore[no-any-return] # an object stays one
        for name, item in value.items():
            below = f"{path}.{name}" if path else name
            inner = properties.get(name)
            if inner is None:
                if additional is not None:
                    if item is not None:
                        made[name] = self.read(additional, item, below, owner, fields)
                    elif additional.type == "string" and not additional.quantity:
                        made[name] = ""
                    continue
                if not schema.preserve_unknown:
                    self.unknown(below)
                continue
            if item is None:
                continue
            made[name] = self.read(inner, item, below, owner, (*fields, name))
        return made

    def read(self, schema: Schema, value: Any, path: str, owner: str, fields: tuple[str, ...]) -> Any:  # noqa: PLR0911, PLR0912, C901 - a table of types
        kind = schema.type
        if kind == "object":
            if isinstance(value, dict):
                inner = schema.ref.rpartition(".")[2] or owner
                return self.read_object(schema, value, path, inner, fields)
            if schema.preserve_unknown:
                return clone(value)
        elif kind == "array":
            if isinstance(value, list):
                items = schema.items or Schema()
                return [
                    self.read(items, item, f"{path}[{index}]", owner, fields)
                    for index, item in enumerate(value)
                    if item is not None
                ]
        elif kind == "string":
            if schema.quantity:
                return self._quantity(value)
            if isinstance(value, str):
                if schema.format == "date-time":
                    return _time(value, schema)
                return _base64(value) if schema.format == "byte" else value
        elif kind == "boolean":
            if isinstance(value, bool):
                return value
        elif kind == "integer":
            if isinstance(value, int) and not isinstance(value, bool):
                if -_RANGE[schema.format] <= value < _RANGE[schema.format]:
                    return value
                raise self._mismatch(f"number {value}", schema, owner, fields)
            if isinstance(value, float):
                if value.is_integer() and abs(value) < _RANGE[schema.format]:
                    return int(value)
                raise self._mismatch(f"number {value}", schema, owner, fields)
        elif kind == "number":
            if isinstance(value, int | float) and not isinstance(value, bool):
                return value
        elif schema.int_or_string:
            if isinstance(value, int | str) and not isinstance(value, bool):
                return value
            raise _Wrong(f"json: cannot unmarshal {_json_type(value)} into Go value of type int32")
        else:
            return self._any(schema, value, path, owner, fields)
        raise self._mismatch(_json_type(value), schema, owner, fields)

    def _any(self, schema: Schema, value: Any, path: str, owner: str, fields: tuple[str, ...]) -> Any:
        if isinstance(value, dict) and (schema.properties or schema.additional is not None):
            return self.read_object(schema, value, path, owner, fields)
        if isinstance(value, list) and schema.items is not None:
            items = schema.items
            return [self.read(items, item, f"{path}[{at}]", owner, fields) for at, item in enumerate(value)]
        return clone(value)

    @staticmethod
    def _quantity(value: Any) -> str:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            try:
                return canonical_quantity(value if isinstance(value, str) else repr(value))
            except InvalidInput:
                pass
        raise _Wrong(_QUANTITY)

    @staticmethod
    def _mismatch(said: str, schema: Schema, owner: str, fields: tuple[str, ...]) -> _Wrong:
        field = f"{owner}.{'.'.join(fields)}"
        return _Wrong(f"json: cannot unmarshal {said} into Go struct field {field} of type {_go_type(schema)}")


@functools.lru_cache(maxsize=4096)
def canonical_quantity(text: str) -> str:
    """Return a quantity in its canonical form.

    Raises:
        InvalidInput: it is none.

    """
    return str(Quantity.parse(text))


def _time(value: str, schema: Schema) -> str | None:
    """Return a time in UTC with as many digits as its type has."""
    micro = schema.ref.endswith(".MicroTime")
    if (_MICRO_TIME if micro else _TIME).fullmatch(value):
        return value
    layout = "2006-01-02T15:04:05.000000Z07:00" if micro else "2006-01-02T15:04:05Z07:00"
    if micro and not _MICROS.search(value) and _TIME.fullmatch(value):
        raise _Wrong(f'parsing time "{value}" as "{layout}": cannot parse "Z" as ".000000"')
    try:
        read: datetime | None = datetime.fromisoformat(value)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None or "T" not in value:
        first = value if not value[:1].isdigit() else value[10:] or value
        raise _Wrong(f'parsing time "{value}" as "{layout}": cannot parse "{first}" as "2006"')
    return read.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def _base64(value: str) -> str:
    try:
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        place = next((at for at, letter in enumerate(value) if not (letter.isalnum() or letter in "+/=")), len(value))
        raise _Wrong(f"illegal base64 data at input byte {place}") from None
    return value


def _prune_root(schema: Schema, obj: dict[str, Any], problems: list[str], resource: Resource) -> dict[str, Any]:
    """Prune a whole object: its type and metadata are known whatever the schema says."""
    made: dict[str, Any] = _pruned(schema, obj, "", problems, root=True)
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        try:
            made["metadata"] = _Reader(problems).read_object(
                schema_of("meta_v1", "ObjectMeta"), metadata, "metadata", "ObjectMeta", ()
            )
        except _Wrong as error:
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {error}'
            ) from None
    elif metadata is not None:
        raise bad_request(f"the object provided is unrecognized: metadata must be an object, not {metadata!r}")
    return made


_IMPLICIT: Final = ("apiVersion", "kind", "metadata")


def pruned(schema: Schema, value: Any) -> Any:
    """Return a value of a CRD without the fields that its schema does not know."""
    return _pruned(schema, value, "", [])


def _pruned(schema: Schema, value: Any, path: str, problems: list[str], *, root: bool = False) -> Any:
    """Return the value without the fields that its schema does not know."""
    if isinstance(value, list):
        items = schema.items
        if items is None:
            return clone(value) if schema.open else []
        return [_pruned(items, item, f"{path}[{index}]", problems) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    implicit = root or schema.embedded_resource
    made: dict[str, Any] = {}
    for name, item in value.items():
        inner = schema.properties.get(name)
        below = f"{path}.{name}" if path else name
        if implicit and name in _IMPLICIT:
            made[name] = clone(item)
        elif inner is not None:
            made[name] = _pruned(inner, item, below, problems)
        elif schema.additional is not None:
            made[name] = _pruned(schema.additional, item, below, problems)
        elif schema.open:
            made[name] = clone(item)
        elif len(problems) < _MAX_PROBLEMS:
            problems.append(f'unknown field "{below}"')
    return made


def drop_nulls(schema: Schema, value: Any) -> Any:
    """Take out the nulls of an object of a CRD that are neither allowed nor replaced by a default; in place."""
    if isinstance(value, dict):
        for name in list(value):
            inner = schema.child(name)
            if inner is None:
                continue
            if value[name] is None and not inner.nullable and not inner.open and inner.default is MISSING:
                del value[name]
            else:
                drop_nulls(inner, value[name])
    elif isinstance(value, list) and schema.items is not None:
        for item in value:
            drop_nulls(schema.items, item)
    return value


def apply_defaults(schema: Schema, value: Any) -> Any:
    """Fill in the defaults of a schema, in place; nulls that are not allowed count as absent."""
    for found in _defaults(schema):
        found(value)
    return value


Filler = Callable[[Any], None]


def _defaults(schema: Schema) -> tuple[Filler, ...]:
    """Return what fills in defaults below a schema: nothing where there are none, which is most of a schema."""
    known = _FILLERS.get(id(schema))
    if known is not None and known[0] is schema:
        return known[1]
    made = (_Filler(schema),) if _has_defaults(schema, set()) else ()
    _FILLERS[id(schema)] = (schema, made)
    if len(_FILLERS) > _MAX_FILLERS:
        _FILLERS.clear()
    return made


_MAX_FILLERS: Final = 20_000
_FILLERS: dict[int, tuple[Schema, tuple[Filler, ...]]] = {}
"""By identity; the schema is kept with it, so that its identity is not given to another."""


def _has_defaults(schema: Schema, seen: set[int]) -> bool:
    if id(schema) in seen:
        return False
    seen.add(id(schema))
    below = [*schema.properties.values()]
    below += [inner for inner in (schema.additional, schema.items) if inner is not None]
    return any(inner.default is not MISSING or _has_defaults(inner, seen) for inner in below)


class _Filler:
    """Fills in what is absent from one kind of value."""

    __slots__ = ("here", "inner", "schema")

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.here = [
            (name, inner.default, inner.nullable)
            for name, inner in schema.properties.items()
            if inner.default is not MISSING
        ]
        self.inner: dict[str, tuple[Filler, ...]] | None = None

    def __call__(self, value: Any) -> None:
        schema = self.schema
        if isinstance(value, dict):
            for name, default, nullable in self.here:
                if name not in value or (value[name] is None and not nullable):
                    value[name] = clone(default)
            if self.inner is None:
                found = {name: _defaults(inner) for name, inner in schema.properties.items()}
                self.inner = {name: fillers for name, fillers in found.items() if fillers}
            for name, fillers in self.inner.items():
                if name in value:
                    for filler in fillers:
                        filler(value[name])
            if schema.additional is not None:
                self._values(schema.additional, value, [name for name in value if name not in schema.properties])
        elif isinstance(value, list) and schema.items is not None:
            self._values(schema.items, value, range(len(value)))

    @staticmethod
    def _values(schema: Schema, value: Any, keys: Any) -> None:
        fillers = _defaults(schema)
        for key in keys:
            if value[key] is None and not schema.nullable and schema.default is not MISSING:
                value[key] = clone(schema.default)
            for filler in fillers:
                filler(value[key])
