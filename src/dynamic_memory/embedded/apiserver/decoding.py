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
from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.gotypes import Reader, Wrong, json_type
from dynamic_memory.embedded.apiserver.pruning import prune
from dynamic_memory.embedded.apiserver.schema import Schema

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.resource import Registry, Resource
    from dynamic_memory.embedded.apiserver.targets import Target

__all__ = ["SCHEME", "Undecodable", "check_kind", "decode", "decode_unstored", "strict_error"]

SCHEME = "pkg/runtime/scheme.go:111"
_GROUPS = {
    "authentication": "authentication.k8s.io",
    "authorization": "authorization.k8s.io",
    "autoscaling": "autoscaling",
    "core": "",
    "policy": "policy",
}
"""Groups of what is not stored."""
_OMITTED = ("labels", "annotations", "finalizers", "ownerReferences", "managedFields")
_EMPTY: tuple[dict[str, Any], list[Any]] = ({}, [])


class Undecodable(StatusError):
    """400: a body is not an object of the kind.

    Args:
        said: kind of the body.
        version: of the body, without its group.
        kind: that is wanted.
        why: what is wrong, without what it is wrong in: a patch is refused by this alone.

    """

    def __init__(self, said: str, version: str, kind: str, why: str) -> None:
        super().__init__(400, "BadRequest", f'{said} in version "{version}" cannot be handled as a {kind}: {why}')
        self.why = why


def check_kind(registry: Registry, obj: dict[str, Any], group: str, version: str, kind: str) -> None:
    """Refuse a body that says that it is of another builtin kind; other versions of a group are the same kind.

    Raises:
        Undecodable: it does.

    """
    api_version = f"{group}/{version}" if group else version
    says, said = obj.get("apiVersion") or api_version, obj.get("kind") or kind
    if (says, said) == (api_version, kind) or not isinstance(says, str) or not isinstance(said, str):
        return
    said_group, _, said_version = says.rpartition("/")
    if not registry.knows(said_group, said_version, said):
        why = f'no kind "{said}" is registered for version "{says}" in scheme "{SCHEME}"'
    elif (said_group, said) == (group, kind):
        return
    else:
        package = group.partition(".")[0] or "core"
        why = f"converting ({said_version}.{said}) to ({package}.{kind}): unknown conversion"
    raise Undecodable(said, said_version, kind, why)


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
            raise Undecodable(resource.kind, resource.version, resource.kind, str(error)) from None
        return _without_empty_metadata(made), problems
    made = _prune_root(schema, obj, problems, resource)
    return _without_empty_metadata(made), problems


def decode_unstored(registry: Registry, target: Target, module: str, kind: str, obj: dict[str, Any]) -> dict[str, Any]:
    """Return a question of a builtin kind that is answered and not stored (reviews, token requests).

    Args:
        registry: what is served.
        target: of the request; gets warnings of unknown fields.
        module: of the kind, such as `authentication_v1`.
        kind: name of it.
        obj: as it came; not changed.

    Raises:
        StatusError: 400, it is of another kind, a field has the wrong type, or, if validation is strict, is not known.

    """
    part, _, version = module.rpartition("_")
    check_kind(registry, obj, _GROUPS[part], version, kind)
    problems: list[str] = []
    try:
        made = Reader(problems).read_object(schema_of(module, kind), obj, "", kind, ())
    except Wrong as error:
        raise Undecodable(kind, version, kind, str(error)) from None
    if problems and target.validation == "Strict":
        raise strict_error(version, kind, problems)
    if target.validation == "Warn":
        target.warnings += problems
    return made


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


def strict_error(version: str, kind: str, problems: list[str]) -> Undecodable:
    """Return the refusal of a body by strict field validation."""
    return Undecodable(kind, version, kind, f"strict decoding error: {', '.join(problems)}")


def _prune_root(schema: Schema, obj: dict[str, Any], problems: list[str], resource: Resource) -> dict[str, Any]:
    """Prune a whole object: its type and metadata are known whatever the schema says."""
    pruned: list[str] = []
    made: dict[str, Any] = prune(schema, obj, "", pruned, root=True)
    metadata = obj.get("metadata")
    if isinstance(metadata, dict):
        try:
            made["metadata"] = Reader(problems).read_object(
                schema_of("meta_v1", "ObjectMeta"), metadata, "metadata", "ObjectMeta", ()
            )
        except Wrong as error:
            raise Undecodable(resource.kind, resource.version, resource.kind, str(error)) from None
    elif metadata is not None:
        why = f"json: cannot unmarshal {json_type(metadata)} into Go value of type v1.ObjectMeta"
        raise Undecodable(resource.kind, resource.version, resource.kind, why)
    problems += sorted(pruned)
    return made
