# SPDX-License-Identifier: Apache-2.0
"""What a path and method mean: resource, names, subresource and verb.

Source: RequestInfo of k8s.io/apiserver. Paths are `/api/v1/…` and `/apis/GROUP/VERSION/…`, then
`[namespaces/NAMESPACE/]PLURAL[/NAME[/SUBRESOURCE[/REST]]]`.
"""

from __future__ import annotations

from typing import NamedTuple

from dynamic_memory.embedded.apiserver.errors import StatusError, method_not_allowed, no_such_method, no_such_path
from dynamic_memory.embedded.apiserver.resource import Registry, Resource

__all__ = ["Route", "route"]

_GROUP_PARTS = {"api": 2, "apis": 3}
_OF_NAMESPACES = frozenset({"status", "finalize"})
_INSIDE = frozenset({"create", "deletecollection"})
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


class Route(NamedTuple):
    """A request for a resource."""

    resource: Resource
    verb: str
    """get, list, watch, create, update, patch, delete or deletecollection."""
    namespace: str
    name: str
    subresource: str
    rest: str
    """What stands behind the subresource (`/proxy/…`)."""


def route(registry: Registry, method: str, path: str, *, watch: bool) -> Route | None:
    """Return what a path means, or None if it is not of a resource at all (discovery, health, an unknown group).

    Raises:
        StatusError: 404, there is no such resource; 405, it does not do this.

    """
    parts = path.strip("/").split("/")
    skip = _GROUP_PARTS.get(parts[0])
    if skip is None or len(parts) <= skip:
        return None
    group = "" if skip == 2 else parts[1]  # noqa: PLR2004 - /api/v1
    version = parts[skip - 1]
    rest = parts[skip:]
    deprecated = rest[0] == "watch"  # the older form of a watch, which may be of one object
    if deprecated:
        rest = rest[1:] or [""]
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and (group or rest[2] not in _OF_NAMESPACES):  # noqa: PLR2004
        namespace, rest = rest[1], rest[2:]
    found = registry.find(group, version, rest[0])
    if found is None and not registry.serves(group):
        return None
    if found is None or (namespace and not found.namespaced) or not all(rest):
        raise no_such_path()
    name = rest[1] if len(rest) > 1 else ""
    subresource = rest[2] if len(rest) > 2 else ""  # noqa: PLR2004
    if found.namespaced and not namespace and name:
        raise no_such_path()
    verb = _verb(method, name, watch=deprecated or (watch and not name))
    if found.namespaced and not namespace and verb in _INSIDE:
        raise no_such_method()  # nothing is made nowhere, nor deleted everywhere
    _allowed(found, verb, subresource, method)
    return Route(found, verb, namespace, name, subresource, "/".join(rest[3:]))


def _verb(method: str, name: str, *, watch: bool) -> str:
    if method == "GET":
        if watch:
            return "watch"
        return "get" if name else "list"
    verb = _VERBS.get(method)
    if verb is None or (verb in {"update", "patch"} and not name):
        raise no_such_method()
    return "deletecollection" if verb == "delete" and not name else verb


def _allowed(resource: Resource, verb: str, subresource: str, method: str) -> None:
    if subresource:
        known = resource.subresources.get(subresource)
        if known is None:
            if resource.builtin and subresource in {"log", "exec", "attach", "portforward", "proxy"}:
                return
            raise no_such_path()
        if verb not in known.verbs:
            raise _refused(resource, verb)
        return
    if verb not in resource.verbs and not (verb == "watch" and method == "GET" and "watch" in resource.verbs):
        raise _refused(resource, verb)


def _refused(resource: Resource, verb: str) -> StatusError:
    """Return the refusal of a verb: there is no such path of a builtin kind; those of custom kinds are one handler."""
    return no_such_method() if resource.builtin else method_not_allowed(resource, verb)
