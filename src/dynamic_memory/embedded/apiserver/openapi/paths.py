# SPDX-License-Identifier: Apache-2.0
"""The paths of a document: which operation each URL has, with which parameters and bodies.

Clients look here for two things above all: whether PATCH knows the parameter `fieldValidation` (else kubectl validates
by itself or not at all), and whether its body may be a strategic merge patch (else kubectl sends a merge patch).
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.embedded.apiserver.openapi.components import PREFIX, Components, gvk
from dynamic_memory.embedded.apiserver.resource import Resource, Subresource

__all__ = ["resource_paths"]

Json = dict[str, Any]

FORMATS = ("application/json", "application/yaml")
PATCHES = ("application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json")
STRATEGIC = "application/strategic-merge-patch+json"


def _parameter(name: str, kind: str, text: str, where: str = "query") -> Json:
    found = {"name": name, "in": where, "description": text, "schema": {"type": kind, "uniqueItems": True}}
    return {**found, "required": True} if where == "path" else found


NAME = _parameter("name", "string", "name of the object", "path")
NAMESPACE = _parameter("namespace", "string", "the namespace of the object", "path")
PRETTY = _parameter("pretty", "string", "Whether the answer is to be laid out for reading.")
WRITING = (
    _parameter("dryRun", "string", "All: do everything but keep the result."),
    _parameter("fieldManager", "string", "The name under which the written fields are owned."),
    _parameter(
        "fieldValidation",
        "string",
        "What to do about unknown and duplicate fields: Ignore drops them, Warn says so, Strict refuses the request.",
    ),
)
FORCE = _parameter("force", "boolean", "Whether an apply takes over the fields that others own.")
LISTING = (
    _parameter("allowWatchBookmarks", "boolean", "Whether the watch may send bookmarks."),
    _parameter("continue", "string", "The mark of the next page."),
    _parameter("fieldSelector", "string", "Only objects with these values of fields."),
    _parameter("labelSelector", "string", "Only objects with these labels."),
    _parameter("limit", "integer", "The largest number of objects of a page."),
    _parameter("resourceVersion", "string", "The version to read at or to watch from."),
    _parameter("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    _parameter("sendInitialEvents", "boolean", "Whether the watch starts with the objects that there are."),
    _parameter("timeoutSeconds", "integer", "When the watch ends."),
    _parameter("watch", "boolean", "Whether changes are sent instead of a list."),
)
DELETING = (
    WRITING[0],
    _parameter("gracePeriodSeconds", "integer", "Seconds before the object is deleted."),
    _parameter("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    _parameter("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
)

# verb -> (method, action, on the collection)
OPERATIONS = {
    "list": ("get", "list", True),
    "create": ("post", "post", True),
    "deletecollection": ("delete", "deletecollection", True),
    "get": ("get", "get", False),
    "update": ("put", "put", False),
    "patch": ("patch", "patch", False),
    "delete": ("delete", "delete", False),
}
VERBS = {"post": "create", "get": "read", "put": "replace", "deletecollection": "delete"}
"""Actions whose operations have another name."""


def _body(component: str, formats: tuple[str, ...]) -> Json:
    return {media: {"schema": {"$ref": PREFIX + component}} for media in formats}


def resource_paths(resource: Resource, components: Components) -> dict[str, Json]:
    """Return the paths of a resource and its subresources; the types of their bodies are added to `components`."""
    kind = components.add_kind(resource)
    listed = f"{kind.rpartition('.')[0]}.{resource.list_kind}"
    bodies = {
        "item": kind,
        "list": listed,
        "options": components.add_meta("DeleteOptions"),
        "status": components.add_meta("Status"),
        "patch": components.add_meta("Patch"),
    }
    root = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"
    scope = f"{root}/namespaces/{{namespace}}" if resource.namespaced else root
    collection = f"{scope}/{resource.plural}"
    paths: dict[str, Json] = {}
    identity = gvk(resource.group, resource.version, resource.kind)
    for verb in sorted(set(resource.verbs) & set(OPERATIONS)):
        method, action, whole = OPERATIONS[verb]
        path = collection if whole else f"{collection}/{{name}}"
        entry = paths.setdefault(path, _entry(resource, named=not whole))
        entry[method] = _operation(resource, action, identity, bodies)
        if verb == "list" and resource.namespaced:
            everywhere = paths.setdefault(f"{root}/{resource.plural}", {"parameters": [PRETTY]})
            everywhere[method] = _operation(resource, action, identity, bodies, suffix="ForAllNamespaces")
    for name, sub in sorted(resource.subresources.items()):
        entry = _entry(resource, named=True)
        entry |= _subresource(resource, name, sub, bodies, components)
        paths[f"{collection}/{{name}}/{name}"] = entry
    return paths


def _entry(resource: Resource, *, named: bool) -> Json:
    parameters = [NAME] if named else []
    if resource.namespaced:
        parameters.append(NAMESPACE)
    return {"parameters": [*parameters, PRETTY]}


def _subresource(
    resource: Resource, name: str, sub: Subresource, bodies: dict[str, str], components: Components
) -> dict[str, Json]:
    item = bodies["item"]
    if sub.schema is not None:
        item = components.add_type(sub.schema(), sub.group, sub.version, sub.kind)
    identity = gvk(sub.group, sub.version, sub.kind)
    suffix = name.capitalize()
    return {
        OPERATIONS[verb][0]: _operation(
            resource, OPERATIONS[verb][1], identity, {**bodies, "item": item}, suffix=suffix
        )
        for verb in sorted(set(sub.verbs) & set(OPERATIONS))
    }


def _operation(
    resource: Resource, action: str, identity: Json, bodies: dict[str, str], suffix: str = ""
) -> dict[str, Any]:
    answer = {"list": bodies["list"], "delete": bodies["status"], "deletecollection": bodies["status"]}.get(action)
    group = "".join(part.capitalize() for part in resource.group.removesuffix(".k8s.io").split(".")) or "Core"
    verb = {"post": "create", "get": "read", "put": "replace", "deletecollection": "delete"}.get(action, action)
    scope = "Collection" if action == "deletecollection" else ""
    if resource.namespaced and suffix != "ForAllNamespaces":
        scope += "Namespaced"
    found: Json = {
        "tags": [f"{resource.group.partition('.')[0] or 'core'}_{resource.version}"],
        "operationId": f"{verb}{group}{resource.version.capitalize()}{scope}{resource.kind}{suffix}",
        "responses": {"200": {"description": "OK", "content": _body(answer or bodies["item"], FORMATS)}},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": identity,
    }
    match action:
        case "list":
            found["parameters"] = list(LISTING)
        case "post" | "put":
            found["parameters"] = list(WRITING)
            found["requestBody"] = {"content": _body(bodies["item"], ("*/*",)), "required": True}
        case "patch":
            found["parameters"] = [*WRITING, FORCE]
            formats = (*PATCHES, STRATEGIC) if resource.builtin else PATCHES
            found["requestBody"] = {"content": _body(bodies["patch"], formats), "required": True}
        case "delete" | "deletecollection":
            found["parameters"] = [*DELETING, *(LISTING if action == "deletecollection" else ())]
            found["requestBody"] = {"content": _body(bodies["options"], ("*/*",))}
    return found
