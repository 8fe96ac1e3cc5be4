# SPDX-License-Identifier: Apache-2.0
"""The scale subresource: the number of replicas of an object, read and written without knowing its kind."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.decoding import Undecodable, decode_unstored, strict_error
from dynamic_memory.embedded.apiserver.errors import Cause, bad_request, invalid, not_found, unsupported_media_type
from dynamic_memory.embedded.apiserver.forms import decoded
from dynamic_memory.embedded.apiserver.patch import json_patch, merge_patch
from dynamic_memory.embedded.apiserver.patching import faults, read_patch, unpatchable
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.request import Request, Response, json_response
from dynamic_memory.embedded.apiserver.resource import Resource
from dynamic_memory.embedded.apiserver.routes import Route
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.targets import Target, target_of

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.writing import Writing

__all__ = ["Scaling", "scale_of"]

_BUILTIN = {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}
_PATCHES = ("application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json")


def scale_of(resource: Resource, obj: Mapping[str, Any]) -> Object:
    """Return the Scale of an object."""
    paths = resource.scale_paths or _BUILTIN
    found = obj["metadata"]
    metadata = {
        key: found[key] for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp") if key in found
    }
    replicas = _at(obj, paths["specReplicasPath"])
    spec = {"replicas": replicas} if replicas is not None else {}
    status: Object = {"replicas": _at(obj, paths["statusReplicasPath"]) or 0}
    if selector := _selector(resource, obj, paths):
        status["selector"] = selector
    return {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status}


def _selector(resource: Resource, obj: Mapping[str, Any], paths: Mapping[str, str]) -> str:
    if resource.scale_paths is not None:
        path = paths.get("labelSelectorPath")
        return str(_at(obj, path) or "") if path else ""
    selector = (obj.get("spec") or {}).get("selector") or {}
    labels = (
        selector.get("matchLabels", {}) if "matchLabels" in selector or "matchExpressions" in selector else selector
    )
    terms = [f"{key}={value}" for key, value in sorted(labels.items())]
    for term in selector.get("matchExpressions") or ():
        values = ",".join(sorted(term.get("values") or ()))
        terms.append(
            {
                "In": f"{term['key']} in ({values})",
                "NotIn": f"{term['key']} notin ({values})",
                "Exists": term["key"],
            }.get(term.get("operator"), f"!{term['key']}")
        )
    return ",".join(terms)


def _at(obj: Mapping[str, Any], path: str) -> Any:
    value: Any = obj
    for name in path.lstrip(".").split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


class Scaling:
    """Answers to requests of scales."""

    def __init__(self, core: Core, writing: Writing) -> None:
        self._core = core
        self._writing = writing

    async def handle(self, request: Request, route: Route, decode: Callable[[Request, str], Object]) -> Response:
        """Answer a GET, PUT or PATCH."""
        resource = route.resource
        store, key = self._core.store, (route.namespace, route.name)
        record = store.get(resource.storage, key) if route.verb == "get" else store.head(resource.storage, key)
        if record is None:
            raise not_found(resource, route.name)
        if route.verb == "get":
            return json_response(200, scale_of(resource, decoded(resource, record)))
        target = target_of(request, route, "UpdateOptions" if route.verb == "update" else "PatchOptions")
        body: Any = decode(request, "Scale") if route.verb == "update" else self._patch(request)
        faulty = faults(target, request.media_type, request.body, body) if route.verb == "patch" else []

        def change(old: Object) -> Object:
            if route.verb == "update":
                scale = self._read(target, body)
            else:
                base = scale_of(resource, old)
                patched = self._patched(request, base, body)
                scale = self._read_patched(target, patched, faulty)
                if resource.scale_paths is not None and not ({*base["spec"], *(scale.get("spec") or {})}):
                    field = resource.scale_paths["specReplicasPath"]
                    raise bad_request(f'the spec replicas field "{field}" cannot be empty')
            self._check(scale, route)
            said = scale.get("metadata") or {}
            self._writing.same_object(target, old, said.get("uid") or "", said.get("resourceVersion") or "")
            new: Object = clone(old)
            place = new
            *steps, last = (resource.scale_paths or _BUILTIN)["specReplicasPath"].lstrip(".").split(".")
            for name in steps:
                place = place.setdefault(name, {})
            place[last] = (scale.get("spec") or {}).get("replicas") or 0
            return new

        written = await self._writing.change(target, change)
        return json_response(200, scale_of(resource, decoded(resource, written.record)))

    def _patch(self, request: Request) -> Any:
        if request.media_type not in _PATCHES:
            raise unsupported_media_type(_PATCHES)
        return read_patch(request.body)

    def _patched(self, request: Request, scale: Object, patch: Any) -> Object:
        if request.media_type == _PATCHES[0]:
            return json_patch.apply(scale, patch)
        # a Scale has no lists: a strategic merge patch does the same as a merge patch
        return merge_patch.apply(scale, patch)

    def _read(self, target: Target, scale: Object) -> Object:
        return decode_unstored(self._core.registry, target, "autoscaling_v1", "Scale", scale)

    def _read_patched(self, target: Target, scale: Object, found: list[str]) -> Object:
        try:
            if found and target.validation == "Strict":
                raise strict_error("v1", "Scale", found)
            made = self._read(target, scale)
        except Undecodable as error:
            shown = json.dumps(scale, sort_keys=True, separators=(",", ":"))
            raise unpatchable(shown, error.why) from None
        target.warnings += found
        return made

    def _check(self, scale: Object, route: Route) -> None:
        if (scale.get("metadata") or {}).get("name") not in {None, "", route.name}:
            name = scale["metadata"]["name"]
            raise bad_request(f"the name of the object ({name}) does not match the name on the URL ({route.name})")
        replicas = (scale.get("spec") or {}).get("replicas", 0)
        if replicas < 0:
            text = f"Invalid value: {replicas}: must be greater than or equal to 0"
            cause = Cause("FieldValueInvalid", text, "spec.replicas")
            raise invalid("autoscaling", "Scale", meta_name(scale, route), [cause])


def meta_name(scale: Object, route: Route) -> str:
    """Return the name in a Scale, or that of the path."""
    return str((scale.get("metadata") or {}).get("name") or route.name)
