# SPDX-License-Identifier: Apache-2.0
"""The server's part of an object's metadata: names, uids, times, generations, and what may not change. Pure.

Source: `BeforeCreate` and `BeforeUpdate` of k8s.io/apiserver `registry/rest`, `ValidateObjectMeta` of apimachinery.
"""

from __future__ import annotations

import secrets
from typing import Any

from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, bad_request
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.resource import Resource

__all__ = [
    "changed_generation",
    "check_names",
    "generate_name",
    "has_generation",
    "immutable",
    "keep_server_fields",
    "named",
    "new_metadata",
    "same_content",
    "without_times",
]

_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_SUFFIX = 5
_MAX_BASE = 63 - _SUFFIX

_GENERATION = frozenset(
    {
        ("", "pods"),
        ("", "podtemplates"),
        ("", "replicationcontrollers"),
        ("apps", "daemonsets"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
        ("autoscaling", "horizontalpodautoscalers"),
        ("batch", "cronjobs"),
        ("batch", "jobs"),
        ("policy", "poddisruptionbudgets"),
        ("discovery.k8s.io", "endpointslices"),
        ("networking.k8s.io", "ingresses"),
        ("networking.k8s.io", "networkpolicies"),
        ("apiextensions.k8s.io", "customresourcedefinitions"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies"),
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings"),
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
        ("scheduling.k8s.io", "priorityclasses"),
        ("resource.k8s.io", "deviceclasses"),
        ("resource.k8s.io", "devicetaintrules"),
        ("resource.k8s.io", "resourceslices"),
    }
)
_IMMUTABLE = "field is immutable"
_SERVER_SET = ("selfLink", "deletionTimestamp", "deletionGracePeriodSeconds", "uid", "generation", "resourceVersion")


def has_generation(resource: Resource) -> bool:
    """Say whether objects of a kind count the changes of their spec: all custom ones, some of the builtin."""
    return not resource.builtin or resource.storage in _GENERATION


def generate_name(base: str) -> str:
    """Return a name that begins with `base`."""
    return base[:_MAX_BASE] + "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX))


def check_names(obj: Object, resource: Resource, namespace: str, name: str) -> None:
    """Compare a body with the URL it came to, and fill in what it leaves out.

    Raises:
        StatusError: 400, they contradict each other.

    """
    version = obj.get("apiVersion")
    if version and version != resource.api_version:
        raise bad_request(
            f"the API version in the data ({version}) does not match the expected API version ({resource.api_version})"
        )
    kind = obj.get("kind")
    if kind and kind != resource.kind:
        raise bad_request(
            f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: the kind in the data does '
            f"not match the expected kind"
        )
    metadata = obj.get("metadata")
    if metadata is None:
        metadata = obj["metadata"] = {}
    if not isinstance(metadata, dict):
        raise bad_request(f"{resource.kind} cannot be handled: metadata must be an object")
    given = metadata.get("namespace") or ""
    if not resource.namespaced:
        metadata.pop("namespace", None)
    else:
        if given and given != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = namespace
    if name:
        said = metadata.get("name") or ""
        if said and said != name:
            raise bad_request(f"the name of the object ({said}) does not match the name on the URL ({name})")
        metadata["name"] = name
    obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind


def named(obj: Object, name: str) -> None:
    """Refuse a body that does not say what it is called.

    Args:
        obj: the body.
        name: in the URL.

    Raises:
        StatusError: 400.

    """
    metadata = obj.get("metadata")
    if not isinstance(metadata, dict) or not metadata.get("name"):
        raise bad_request(f"the name of the object ({name} based on URL) was undeterminable: name must be provided")


def new_metadata(obj: Object, resource: Resource, uid: str, now: str) -> None:
    """Set what the server sets on a new object."""
    metadata = obj["metadata"]
    if metadata.get("resourceVersion"):
        raise StatusError(500, "", "resourceVersion should not be set on objects to be created")
    for field in _SERVER_SET:
        metadata.pop(field, None)
    metadata["uid"] = uid
    metadata["creationTimestamp"] = now
    if has_generation(resource):
        metadata["generation"] = 1


def keep_server_fields(new: Object, old: Object) -> None:
    """Keep on a changed object what clients do not set, where they left it out or may not touch it."""
    metadata, before = new["metadata"], old["metadata"]
    for field in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"):
        if metadata.get(field) is None or metadata[field] == "":
            metadata.pop(field, None)
            if field in before:
                metadata[field] = before[field]
    for field in ("generation", "selfLink", "resourceVersion"):
        metadata.pop(field, None)
        if field in before:
            metadata[field] = before[field]


def immutable(new: Object, old: Object) -> list[Cause]:
    """Return what is wrong with the metadata of a changed object."""
    metadata, before = new["metadata"], old["metadata"]
    fields = ("name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")
    causes = [
        Cause(
            "FieldValueInvalid",
            f"Invalid value: {_shown(metadata.get(field))}: field is immutable",
            f"metadata.{field}",
        )
        for field in fields
        if metadata.get(field) != before.get(field)
    ]
    if before.get("deletionTimestamp"):
        known = set(before.get("finalizers") or ())
        added = [finalizer for finalizer in metadata.get("finalizers") or () if finalizer not in known]
        if added:
            shown = ", ".join(f'"{finalizer}"' for finalizer in added)
            text = (
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers "
                f"[]string{{{shown}}}"
            )
            causes.append(Cause("FieldValueForbidden", text, "metadata.finalizers"))
    return causes


def _shown(value: Any) -> str:
    return "null" if value is None else f'"{value}"'


def changed_generation(new: Object, old: Object, resource: Resource) -> bool:
    """Say whether a change counts: of the spec, or of anything but metadata and status where there is no such rule."""
    if resource.builtin and ("spec" in new or "spec" in old):
        return new.get("spec") != old.get("spec")
    ignored = {"metadata", "status"} if "status" in resource.subresources else {"metadata"}
    return any(new.get(key) != old.get(key) for key in (new.keys() | old.keys()) - ignored)


def without_times(fields: Any) -> Any:
    """Return managedFields without their times."""
    return [{key: item for key, item in entry.items() if key != "time"} for entry in fields or ()]


def same_content(new: Object, old: Object) -> bool:
    """Say whether a write changes nothing: times of managedFields alone do not count."""
    for key in new.keys() | old.keys():
        if key != "metadata" and new.get(key) != old.get(key):
            return False
    one, two = new["metadata"], old["metadata"]
    for key in one.keys() | two.keys():
        if key == "managedFields":
            if one.get(key) != two.get(key) and without_times(one.get(key)) != without_times(two.get(key)):
                return False
        elif key != "resourceVersion" and one.get(key) != two.get(key):
            return False
    return True
