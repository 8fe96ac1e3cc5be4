# SPDX-License-Identifier: Apache-2.0
"""PATCH: which kind of patch a body is, and the write that it becomes."""

from __future__ import annotations

import json
from collections.abc import Collection

from dynamic_memory.embedded.apiserver import metadata as meta
from dynamic_memory.embedded.apiserver.bodies import decode_json, decode_yaml, may_repeat
from dynamic_memory.embedded.apiserver.contents import reset_of
from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.decoding import Undecodable
from dynamic_memory.embedded.apiserver.duplicates import duplicate_fields
from dynamic_memory.embedded.apiserver.errors import (
    Cause,
    StatusError,
    bad_request,
    conflict,
    invalid,
    not_found,
    unsupported_media_type,
)
from dynamic_memory.embedded.apiserver.lasting import lasting
from dynamic_memory.embedded.apiserver.patch import apply, json_patch, merge_patch, strategic
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.request import Request
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.targets import Target
from dynamic_memory.embedded.apiserver.writing import Write, Writing

__all__ = ["APPLY", "STYLES", "Patching", "faults", "read_patch", "unpatchable"]

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
_OPERATION = frozenset({"op", "path", "from", "value"})
STYLES = {"json": JSON_PATCH, "merge": MERGE_PATCH, "strategic": STRATEGIC}


class Patching:
    """See the module."""

    def __init__(self, core: Core, writing: Writing) -> None:
        self._core = core
        self._writing = writing

    async def patch(self, target: Target, request: Request) -> Write:
        """Change an object as a body says."""
        kind = request.media_type
        if kind == APPLY:
            if not request.first("fieldManager"):
                raise _no_manager()
            config = decode_yaml(request.body, target.resource.kind)
            if not isinstance(config, dict):
                raise bad_request("error decoding YAML: the configuration is not an object")
            return await self.apply(target, config)
        if kind not in {JSON_PATCH, MERGE_PATCH, STRATEGIC} or (kind == STRATEGIC and not target.resource.builtin):
            accepted = (JSON_PATCH, MERGE_PATCH, STRATEGIC, APPLY)
            raise unsupported_media_type(a for a in accepted if a != STRATEGIC or target.resource.builtin)
        patch = read_patch(request.body)
        return await self.change(target, kind, patch, faults(target, kind, request.body, patch))

    async def change(self, target: Target, kind: str, patch: object, found: Collection[str] = ()) -> Write:
        """Change an object by a JSON, merge or strategic merge patch that is decoded.

        Args:
            target: what and by whom.
            kind: media type of the patch.
            patch: the patch.
            found: what field validation has against the patch itself.

        """

        def change(old: Object) -> Object:
            if kind == JSON_PATCH:
                new = json_patch.apply(old, patch)
            elif kind == MERGE_PATCH:
                new = merge_patch.apply(old, patch)
            else:
                new = strategic.apply(target.resource.schema, old, patch)
                new["apiVersion"], new["kind"] = old["apiVersion"], old["kind"]  # of the patch, they are not looked at
            return self._checked(target, new, found, _go(patch) if kind == STRATEGIC else "")

        return await self._writing.change(target, change)

    def _checked(self, target: Target, new: Object, found: Collection[str], shown: str) -> Object:
        """Check what a patch made like a body; `shown` is the patch, if a refusal shows that instead of the object."""
        try:
            made = self._writing.contents.check(target, new, found=found)
        except Undecodable as error:
            raise unpatchable(shown or json.dumps(new, sort_keys=True, separators=(",", ":")), error.why) from None
        if not target.resource.builtin:
            _same_kind(target, made)
        return _named(target, made)

    @lasting
    async def apply(self, target: Target, config: Object) -> Write:
        """Apply a configuration: change what is there, or create it."""
        resource = target.resource
        key = (target.namespace, target.name)
        if self._core.store.head(resource.storage, key) is None:
            if target.subresource:
                raise not_found(resource, target.name)
            try:
                return await self._create(target, config)
            except StatusError as error:
                if error.reason != "AlreadyExists":
                    raise
        uid = _uid(config)

        def change(old: Object) -> Object:
            if uid and uid != old["metadata"].get("uid"):
                return {**old, "metadata": {**old["metadata"], "uid": uid}}
            return self._applied(target, old, config)

        return await self._writing.change(target, change, owned=True)

    async def _create(self, target: Target, config: Object) -> Write:
        said = _uid(config)
        if said:
            why = f"uid mismatch: the provided object specified uid {said}, and no existing object was found"
            raise conflict(target.resource, target.name, why)
        obj = self._applied(target, None, clone(config))
        return await self._writing.create(target, obj, owned=True)

    def _applied(self, target: Target, live: Object | None, config: Object) -> Object:
        resource = target.resource
        new = apply.apply(
            resource.schema,
            live,
            config,
            manager=target.manager,
            force=target.force,
            subresource=target.subresource or None,
            api_version=resource.api_version,
            time=self._core.clock.stamp(),
            reset=reset_of(target),
            kind=resource.kind,
            convert=self._writing.contents.convert(resource),
        )
        return self._writing.contents.canonical(target, _named(target, new))


def read_patch(body: bytes) -> object:
    """Return a JSON, merge or strategic merge patch.

    Raises:
        StatusError: 400, it is no JSON.

    """
    try:
        return decode_json(body)
    except StatusError:
        raise bad_request("invalid JSON patch") from None


def faults(target: Target, kind: str, body: bytes, patch: object) -> list[str]:
    """Return what field validation has against a patch itself: names that are in it twice, and operations' own ones."""
    if target.validation == "Ignore":
        return []
    if kind != JSON_PATCH:
        return duplicate_fields(body) if may_repeat(body, patch) else []
    if not isinstance(patch, list):
        return []
    return [
        f'json patch unknown field "[{index}].{name}"'
        for index, operation in enumerate(patch)
        if isinstance(operation, dict)
        for name in operation
        if name not in _OPERATION
    ]


def unpatchable(shown: str, why: str) -> StatusError:
    """Return the refusal of a patch whose result is no object of the kind."""
    cause = Cause("FieldValueInvalid", f"Invalid value: {json.dumps(shown, ensure_ascii=False)}: {why}", "patch")
    return invalid("", "", "", [cause])


def _go(value: object) -> str:
    """Return a value as Go prints it."""
    if isinstance(value, dict):
        return f"map[{' '.join(f'{key}:{_go(value[key])}' for key in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(_go, value))}]"
    if value is None:
        return "<nil>"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _same_kind(target: Target, new: Object) -> None:
    """Refuse a patch that makes another kind of a custom object.

    Raises:
        StatusError: 422.

    """
    resource = target.resource
    causes = [
        Cause("FieldValueInvalid", f'Invalid value: "{new.get(field)}": must be {wanted}', field)
        for field, wanted in (("kind", resource.kind), ("apiVersion", resource.api_version))
        if new.get(field) != wanted
    ]
    if causes:
        raise invalid(str(new.get("apiVersion")).rpartition("/")[0], str(new.get("kind")), target.name, causes)


def _uid(config: Object) -> str:
    metadata = config.get("metadata")
    return str(metadata.get("uid") or "") if isinstance(metadata, dict) else ""


def _named(target: Target, new: Object) -> Object:
    """Return an object that a patch made with the names of the URL, with which it has to agree.

    Raises:
        StatusError: 400, it has no name or another one.

    """
    meta.named(new, target.name)
    new = {**new, "metadata": dict(new["metadata"])}
    meta.check_names(new, target.resource, target.namespace, target.name)
    return new


def _no_manager() -> StatusError:
    text = "Required value: is required for apply patch"
    return invalid("meta.k8s.io", "PatchOptions", "", [Cause("FieldValueRequired", text, "fieldManager")])
