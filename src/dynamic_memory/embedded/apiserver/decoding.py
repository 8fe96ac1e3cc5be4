# SPDX-License-Identifier: Apache-2.0
"""From what a client sent to an object of a kind: unknown fields, types, nulls and canonical values. Pure.

Builtin kinds are read as the Go types of the real server read them: a null is as good as nothing, a wrong type is a
400 with the message of Go's decoder, quantities and times become canonical. Kinds of CRDs are only pruned; their types
are a matter of validation (422). Either way unknown fields go, and are named for `fieldValidation`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from dynamic_memory.embedded.apiserver.builtin.models import schema_of
from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request
from dynamic_memory.embedded.apiserver.gotypes import Reader, Wrong
from dynamic_memory.embedded.apiserver.pruning import prune
from dynamic_memory.embedded.apiserver.schema import Schema

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.resource import Resource

__all__ = ["decode", "decode_unstored", "strict_error"]

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
        reader = Reader(problems)
        try:
            made = reader.read_object(schema, obj, "", resource.kind, ())
        except Wrong as error:
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {error}'
            ) from None
        return _without_empty_metadata(made), problems
    made = _prune_root(schema, obj, problems, resource)
    return _without_empty_metadata(made), problems


def decode_unstored(module: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    """Return a question of a builtin kind that is answered and not stored (reviews, token requests).

    Args:
        module: of the kind, such as `authentication_v1`.
        kind: name of it.
        obj: as it came; not changed.

    Raises:
        StatusError: 400, a field has the wrong type.

    """
    try:
        return Reader([]).read_object(schema_of(module, kind), obj, "", kind, ())
    except Wrong as error:
        version = module.rpartition("_")[2]
        raise bad_request(f'{kind} in version "{version}" cannot be handled as a {kind}: {error}') from None


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


def _prune_root(schema: Schema, obj: dict[str, Any], problems: list[str], resource: Resource) -> dict[str, Any]:
    """Prune a whole object: its type and metadata are known whatever the schema says."""
    made: dict[str, Any] = prune(schema, obj, "", problems, root=True)
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        try:
            made["metadata"] = Reader(problems).read_object(
                schema_of("meta_v1", "ObjectMeta"), metadata, "metadata", "ObjectMeta", ()
            )
        except Wrong as error:
            raise bad_request(
                f'{resource.kind} in version "{resource.version}" cannot be handled as a {resource.kind}: {error}'
            ) from None
    elif metadata is not None:
        raise bad_request(f"the object provided is unrecognized: metadata must be an object, not {metadata!r}")
    return made
