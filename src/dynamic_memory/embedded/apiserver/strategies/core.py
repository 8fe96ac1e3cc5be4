# SPDX-License-Identifier: Apache-2.0
"""Namespaces, nodes, ConfigMaps, Secrets, leases, disruption budgets, priority classes, events.

Source: `pkg/apis/{core,coordination,policy,scheduling}` and their registry strategies in Kubernetes 1.37.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import config_key, label_key, label_value, validate_selector
from dynamic_memory.embedded.apiserver.resource import Context, Strategy
from dynamic_memory.embedded.apiserver.strategies.checks import immutable
from dynamic_memory.quantity import Quantity

__all__ = [
    "BudgetStrategy",
    "ConfigMapStrategy",
    "EventStrategy",
    "LeaseStrategy",
    "NamespaceStrategy",
    "NodeStrategy",
    "PriorityClassStrategy",
    "SecretStrategy",
]

MAX_DATA: Final = 1024 * 1024
NAME_LABEL: Final = "kubernetes.io/metadata.name"
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SECRET_KEYS: Final = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
HIGHEST_PRIORITY: Final = 1_000_000_000

Object = dict[str, Any]


class NamespaceStrategy(Strategy):
    """Namespace: labelled with its name, held by a finalizer until it is empty."""

    def default(self, obj: Object) -> Object:
        """Label it with its name."""
        metadata = obj.get("metadata") or {}
        if metadata.get("name"):
            labels = metadata["labels"] = dict(metadata.get("labels") or {})
            labels[NAME_LABEL] = metadata["name"]
        return obj

    def prepare_create(self, obj: Object, ctx: Context) -> Object:
        """Begin its life."""
        del ctx
        self.default(obj)
        spec = obj.setdefault("spec", {})
        finalizers = spec.setdefault("finalizers", [])
        if "kubernetes" not in finalizers:
            finalizers.append("kubernetes")
        obj["status"] = {"phase": "Active"}
        return obj

    def prepare_update(self, new: Object, old: Object, ctx: Context, subresource: str | None) -> Object:
        """Keep the finalizers: only `finalize` changes them."""
        del ctx
        if subresource is None and "spec" in old:
            new["spec"] = old["spec"]
        return new


class NodeStrategy(Strategy):
    """Node: what it is called by a cloud may not change."""

    keeps_status = True

    def default(self, obj: Object) -> Object:
        """Let everything be allocatable until the node says what is."""
        status = obj.get("status")
        if isinstance(status, dict) and status.get("capacity") and status.get("allocatable") is None:
            status["allocatable"] = dict(status["capacity"])
        return obj

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check taints and resources."""
        return [*_taints((obj.get("spec") or {}).get("taints") or []), *_node_resources(obj.get("status") or {})]

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check them again, and what may not change."""
        del subresource
        causes = self.validate_create(new)
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if before.get("podCIDRs") and spec.get("podCIDRs") != before["podCIDRs"]:
            text = 'node updates may not change podCIDR except from "" to valid'
            causes.append(fields.forbidden("spec.podCIDRs", text))
        if before.get("providerID") and spec.get("providerID") != before["providerID"]:
            said = "modified" if spec.get("providerID") else "cleared"
            causes.append(fields.invalid("spec.providerID", None, f"field cannot be {said} once set"))
        addresses = (new.get("status") or {}).get("addresses") or []
        for index, address in enumerate(addresses):
            if address in addresses[:index]:
                causes.append(fields.duplicate(f"status.addresses[{index}]", address))
        return causes


def _taints(taints: list[Mapping[str, Any]]) -> Iterable[Cause]:
    seen: set[tuple[str, str]] = set()
    for index, taint in enumerate(taints):
        here = f"metadata.taints[{index}]"
        name, value, effect = (taint.get(part, "") for part in ("key", "value", "effect"))
        yield from (fields.invalid(f"{here}.key", name, text) for text in label_key(name))
        yield from (fields.invalid(f"{here}.value", value, text) for text in label_value(value))
        if not effect:
            yield fields.required(f"{here}.effect")
        elif effect not in _EFFECTS:
            yield fields.not_supported(f"{here}.effect", effect, _EFFECTS)
        if (name, effect) in seen:
            yield Cause(
                "FieldValueDuplicate",
                f"{fields.duplicate(here, taint).message}: taints must be unique by key and effect pair",
                here,
            )
        seen.add((name, effect))


def _node_resources(status: Mapping[str, Any]) -> Iterable[Cause]:
    for part in ("capacity", "allocatable"):
        for name, value in (status.get(part) or {}).items():
            here = f"status.{part}.{name}"
            yield from (fields.invalid(here, name, text) for text in label_key(name))
            if Quantity.parse(value) < Quantity(0):
                yield fields.invalid(here, value, "must be greater than or equal to 0")


class ConfigMapStrategy(Strategy):
    """ConfigMap: its data is limited, and may be made immutable."""

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check names and size."""
        data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
        causes: list[Cause] = []
        for part, values in (("data", data), ("binaryData", binary)):
            for name in values:
                causes += [fields.invalid(fields.key(part, name), name, text) for text in config_key(name)]
        for name in data.keys() & binary.keys():
            causes.append(fields.invalid(fields.key("data", name), name, "duplicate of key present in binaryData"))
        size = sum(len(value.encode()) for value in data.values())
        size += sum(len(base64.b64decode(value)) for value in binary.values())
        if size > MAX_DATA:
            causes.append(fields.too_long("", MAX_DATA))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that what is immutable is as it was."""
        del subresource
        return [*_frozen(new, old, "data", "binaryData"), *self.validate_create(new)]


def _frozen(new: Object, old: Object, *parts: str) -> Iterable[Cause]:
    if not old.get("immutable"):
        return
    text = "field is immutable when `immutable` is set"
    if not new.get("immutable"):
        yield fields.forbidden("immutable", text)
    for part in parts:
        if (new.get(part) or {}) != (old.get(part) or {}):
            yield fields.forbidden(part, text)


class SecretStrategy(Strategy):
    """Secret: plain texts become data; the type may not change."""

    def default(self, obj: Object) -> Object:
        """Take the plain texts into data."""
        texts = obj.pop("stringData", None)
        if isinstance(texts, dict) and texts:
            data = obj["data"] = dict(obj.get("data") or {})
            data |= {name: base64.b64encode(value.encode()).decode() for name, value in texts.items()}
        return obj

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check names, size, and what the type asks for."""
        data, kind = obj.get("data") or {}, obj.get("type", "")
        causes = [fields.invalid(fields.key("data", name), name, text) for name in data for text in config_key(name)]
        if sum(len(base64.b64decode(value)) for value in data.values()) > MAX_DATA:
            causes.append(fields.too_long("data", MAX_DATA))
        causes += [fields.required(fields.key("data", name)) for name in _SECRET_KEYS.get(kind, ()) if name not in data]
        if kind == "kubernetes.io/basic-auth" and not {"username", "password"} & data.keys():
            causes += [fields.required(fields.key("data", name)) for name in ("username", "password")]
        annotation = "kubernetes.io/service-account.name"
        annotations = (obj.get("metadata") or {}).get("annotations") or {}
        if kind == "kubernetes.io/service-account-token" and not annotations.get(annotation):
            causes.append(fields.required(fields.key("metadata.annotations", annotation)))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that what is immutable is as it was."""
        del subresource
        causes = immutable(new.get("type"), old.get("type"), "type")
        return [*causes, *_frozen(new, old, "data"), *self.validate_create(new)]


class LeaseStrategy(Strategy):
    """Lease."""

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check duration and count."""
        spec = obj.get("spec") or {}
        causes = []
        if spec.get("leaseDurationSeconds") is not None and spec["leaseDurationSeconds"] <= 0:
            text = "must be greater than 0"
            causes.append(fields.invalid("spec.leaseDurationSeconds", spec["leaseDurationSeconds"], text))
        if spec.get("leaseTransitions", 0) < 0:
            text = "must be greater than or equal to 0"
            causes.append(fields.invalid("spec.leaseTransitions", spec["leaseTransitions"], text))
        if spec.get("preferredHolder") and not spec.get("strategy"):
            text = "may only be specified if `strategy` is defined"
            causes.append(fields.forbidden("spec.preferredHolder", text))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check them again."""
        del old, subresource
        return self.validate_create(new)


class BudgetStrategy(Strategy):
    """PodDisruptionBudget: either a least or a greatest number."""

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        spec = obj.get("spec") or {}
        causes = []
        if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
            text = "minAvailable and maxUnavailable cannot be both set"
            names = ("MinAvailable", "Selector", "MaxUnavailable", "UnhealthyPodEvictionPolicy")
            shown = {name: spec.get(name[0].lower() + name[1:]) for name in names}
            causes.append(fields.invalid("spec", shown, text))
        for name in ("minAvailable", "maxUnavailable"):
            value = spec.get(name)
            if isinstance(value, int) and value < 0:
                causes.append(fields.invalid(f"spec.{name}", value, "must be greater than or equal to 0"))
        policy = spec.get("unhealthyPodEvictionPolicy")
        if policy is not None and policy not in ("AlwaysAllow", "IfHealthyBudget"):
            values = ("AlwaysAllow", "IfHealthyBudget")
            causes.append(fields.not_supported("spec.unhealthyPodEvictionPolicy", policy, values))
        return causes + validate_selector(spec.get("selector"), "spec.selector")

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the spec again."""
        del old
        return [] if subresource is not None else self.validate_create(new)


class PriorityClassStrategy(Strategy):
    """PriorityClass: its value may not change."""

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check name and value."""
        name, value = (obj.get("metadata") or {}).get("name", ""), obj.get("value", 0)
        causes = []
        if name.startswith("system-") and value > HIGHEST_PRIORITY:
            text = "priority class names with 'system-' prefix are reserved for system use only"
            causes.append(fields.forbidden("metadata.name", text))
        elif value > HIGHEST_PRIORITY:
            text = f"maximum allowed value of a user defined priority is {HIGHEST_PRIORITY}"
            causes.append(fields.forbidden("value", text))
        return causes

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that value and policy are as they were."""
        del subresource
        causes = []
        if new.get("value", 0) != old.get("value", 0):
            causes.append(fields.invalid("value", new.get("value", 0), "may not be changed in an update."))
        return causes + immutable(new.get("preemptionPolicy"), old.get("preemptionPolicy"), "preemptionPolicy")


class EventStrategy(Strategy):
    """Event of the core group: it is where its object is."""

    def validate_create(self, obj: Object) -> list[Cause]:
        """Compare the namespaces."""
        namespace = (obj.get("metadata") or {}).get("namespace", "")
        involved = (obj.get("involvedObject") or {}).get("namespace", "")
        if involved in (namespace, "") and (involved or namespace in ("default", "")):
            return []
        return [fields.invalid("involvedObject.namespace", involved, "does not match event.namespace")]
