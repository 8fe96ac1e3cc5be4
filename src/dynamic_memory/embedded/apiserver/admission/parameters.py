# SPDX-License-Identifier: Apache-2.0
"""The parameters of a policy: objects of its paramKind that a binding names or selects.

Source: `CollectParams` of k8s.io/apiserver, pkg/admission/plugin/policy/generic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import Registry, Resource
from dynamic_memory.embedded.apiserver.selectors import labels_match
from dynamic_memory.embedded.apiserver.store import Store
from dynamic_memory.embedded.apiserver.watch import Selection

__all__ = ["Misconfigured", "collect"]


class Misconfigured(Exception):
    """The parameters of a binding cannot be found out."""


def collect(
    store: Store,
    registry: Registry,
    kind: Mapping[str, Any] | None,
    ref: Mapping[str, Any] | None,
    namespace: str,
) -> list[Object | None]:
    """Return the parameters, each of which the policy is evaluated with; `[None]` if it is evaluated without.

    Args:
        store: the objects.
        registry: what is served.
        kind: `paramKind` of the policy.
        ref: `paramRef` of the binding.
        namespace: of the request.

    Raises:
        Misconfigured: there is no such kind, or the reference does not fit it, or there must be one and is not.

    """
    if not kind or not ref:
        return [None]
    resource = _resource(registry, kind)
    where = str(ref.get("namespace") or "")
    if not resource.namespaced and where:
        raise Misconfigured("paramRef.namespace must not be provided for a cluster-scoped `paramKind`")
    if resource.namespaced:
        where = where or namespace
        if not where:
            raise Misconfigured(
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources"
            )
    found: list[Object | None] = [*_objects(store, resource, ref, where)]
    if not found and ref.get("parameterNotFoundAction") == "Deny":
        raise Misconfigured("no params found for policy binding with `Deny` parameterNotFoundAction")
    return found


def _resource(registry: Registry, kind: Mapping[str, Any]) -> Resource:
    group, _, version = str(kind.get("apiVersion") or "").rpartition("/")
    resource = registry.find_kind(group, version, str(kind.get("kind") or ""))
    if resource is None:
        shown = f"&ParamKind{{APIVersion:{kind.get('apiVersion')},Kind:{kind.get('kind')},}}"
        raise Misconfigured(f"paramKind kind `{shown}` not known")
    return resource


def _objects(store: Store, resource: Resource, ref: Mapping[str, Any], namespace: str) -> list[Object]:
    name, selector = ref.get("name"), ref.get("selector")
    if name:
        if selector is not None:
            raise Misconfigured("paramRef.name and paramRef.selector are mutually exclusive")
        record = store.get(resource.storage, (namespace, str(name)))
        return [] if record is None else [resource.from_storage(record.object)]
    if selector is None:
        raise Misconfigured("one of name or selector must be provided")
    return [
        resource.from_storage(record.object)
        for record in store.select(resource.storage, Selection(namespace))
        if labels_match(selector, record.object["metadata"].get("labels") or {})
    ]
