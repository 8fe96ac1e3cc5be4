# SPDX-License-Identifier: Apache-2.0
"""All objects that a decision may depend on, by kind and name."""

from __future__ import annotations

from typing import Any

from dynamic_memory.allocation.prototype.documents import Document
from dynamic_memory.allocation.prototype.inventory import Inventory
from dynamic_memory.allocation.prototype.types import (
    DeviceClaim,
    DeviceClaimTemplate,
    DeviceClass,
    DeviceDriver,
    DevicePrivilegedClaim,
    DeviceSetClaim,
)
from dynamic_memory.api import core, resource
from dynamic_memory.api.meta import LabelSelector
from dynamic_memory.errors import InvalidInput

__all__ = ["DEFAULT_NAMESPACE", "Key", "World", "selects"]

DEFAULT_NAMESPACE = "default"

Key = tuple[str, str]
"""Namespace and name."""


class World:
    """What was read. Later objects of the same name replace earlier ones."""

    def __init__(self) -> None:
        self.inventory = Inventory()
        self.classes: dict[str, DeviceClass] = {}
        self.drivers: dict[str, DeviceDriver] = {}
        self.claims: dict[Key, DeviceClaim] = {}
        self.privileged: dict[Key, DevicePrivilegedClaim] = {}
        self.sets: dict[Key, DeviceSetClaim] = {}
        self.templates: dict[Key, DeviceClaimTemplate] = {}
        self.pods: dict[Key, dict[str, Any]] = {}
        self.configs: dict[tuple[str, str, str, str], dict[str, Any]] = {}
        self.admin_namespaces: set[str] = set()
        self.groups: dict[Key, dict[str, Any]] = {}
        self.nodes: dict[str, core.Node] = {}
        self.stable_classes: dict[str, resource.DeviceClass] = {}
        self.stable_claims: dict[Key, resource.ResourceClaim] = {}
        self.stable_templates: dict[Key, resource.ResourceClaimTemplate] = {}
        self.slices: dict[str, resource.ResourceSlice] = {}
        self.sources: dict[Key, Document] = {}

    def put(self, found: Any) -> None:
        """Take an object of the prototype in; pools go to the inventory."""
        namespaced = (found.metadata.namespace or DEFAULT_NAMESPACE, found.metadata.name)
        match found:
            case DeviceClass():
                self.classes[found.metadata.name] = found
            case DeviceDriver():
                self.drivers[found.metadata.name] = found
            case DeviceClaim():
                self.claims[namespaced] = found
            case DevicePrivilegedClaim():
                self.privileged[namespaced] = found
            case DeviceSetClaim():
                self.sets[namespaced] = found
            case DeviceClaimTemplate():
                self.templates[namespaced] = found

    def put_stable(self, found: Any) -> None:
        """Take an object of `resource.k8s.io/v1` in."""
        namespaced = (found.metadata.namespace or DEFAULT_NAMESPACE, found.metadata.name)
        match found:
            case resource.DeviceClass():
                self.stable_classes[found.metadata.name] = found
            case resource.ResourceClaim():
                self.stable_claims[namespaced] = found
            case resource.ResourceClaimTemplate():
                self.stable_templates[namespaced] = found
            case resource.ResourceSlice():
                self.slices[found.metadata.name] = found

    def put_pod(self, document: Document) -> None:
        """Take a pod in, as it was written."""
        key = key_of(document.body)
        self.pods[key] = document.body
        self.sources[key] = document

    def put_namespace(self, body: dict[str, Any]) -> None:
        """Note whether administrative access may be asked for in a namespace."""
        labels = body["metadata"].get("labels") or {}
        if str(labels.get("resource.kubernetes.io/admin-access", "")).lower() == "true":
            self.admin_namespaces.add(body["metadata"]["name"])

    def put_group(self, body: dict[str, Any]) -> None:
        """Take a PodGroup in."""
        self.groups[key_of(body)] = body

    def put_config(self, body: dict[str, Any]) -> None:
        """Take an object of any other kind in; claims may refer to it."""
        namespace, name = key_of(body)
        self.configs[body["apiVersion"], body["kind"], namespace, name] = body

    def leaves(self, name: str) -> list[DeviceClass] | None:
        """Return the leaf classes that a class stands for; None if there is no such class.

        Raises:
            InvalidInput: it selects itself, through other meta classes or at once.

        """
        found = self.classes.get(name)
        if found is None:
            return None
        if found.spec.selector is None:
            return [found]
        self._check_circle(found, [])
        # A meta class never stands for other meta classes.
        return [other for other in self._selected(found) if other.spec.definition is not None]

    def _selected(self, meta: DeviceClass) -> list[DeviceClass]:
        selector = meta.spec.selector
        if selector is None:
            return []
        return [other for other in self.classes.values() if selects(selector, other.metadata.labels)]

    def _check_circle(self, meta: DeviceClass, way: list[str]) -> None:
        way = [*way, meta.metadata.name]
        for other in self._selected(meta):
            if other.spec.selector is None:
                continue
            if other.metadata.name == way[0]:
                circle = " -> ".join([*way, other.metadata.name])
                path = f"class {way[0]}: spec.selector"
                raise InvalidInput(
                    path, f"a selector of leaf classes; meta classes select each other in a circle: {circle}"
                )
            if other.metadata.name not in way:
                self._check_circle(other, way)


def key_of(body: dict[str, Any]) -> Key:
    """Return namespace and name of an object as it was written."""
    metadata = body["metadata"]
    return metadata.get("namespace") or DEFAULT_NAMESPACE, metadata["name"]


def selects(selector: LabelSelector, labels: dict[str, str]) -> bool:
    """Tell whether labels meet a selector; an empty selector selects everything."""
    if any(labels.get(key) != value for key, value in selector.match_labels.items()):
        return False
    for line in selector.match_expressions:
        match line.operator:
            case "In":
                met = labels.get(line.key) in line.values
            case "NotIn":
                met = labels.get(line.key) not in line.values
            case "Exists":
                met = line.key in labels
            case "DoesNotExist":
                met = line.key not in labels
            case _:
                met = False
        if not met:
            return False
    return True
