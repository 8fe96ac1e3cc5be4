# SPDX-License-Identifier: Apache-2.0
"""What is special about builtin kinds; each module is imported when its kind is first used."""

from __future__ import annotations

import importlib
from typing import Final

from dynamic_memory.embedded.apiserver.resource import DEFAULT_STRATEGY, Resource, Strategy

__all__ = ["strategy_of"]

_STRATEGIES: Final = {
    ("", "Namespace"): ("strategies.namespaces", "NamespaceStrategy"),
    ("", "Pod"): ("strategies.pods", "PodStrategy"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): ("crd.definition", "DefinitionStrategy"),
    ("resource.k8s.io", "DeviceClass"): ("strategies.claims", "ClassStrategy"),
    ("resource.k8s.io", "DeviceTaintRule"): ("strategies.slices", "TaintRuleStrategy"),
    ("resource.k8s.io", "ResourceClaim"): ("strategies.claims", "ClaimStrategy"),
    ("resource.k8s.io", "ResourceClaimTemplate"): ("strategies.claims", "TemplateStrategy"),
    ("resource.k8s.io", "ResourceSlice"): ("strategies.slices", "SliceStrategy"),
}
"""Module below the API server, and class."""


def strategy_of(resource: Resource) -> Strategy:
    """Return the strategy of a builtin kind, for objects in the version of the resource."""
    found = _STRATEGIES.get((resource.group, resource.kind))
    if found is None:
        return DEFAULT_STRATEGY
    module = importlib.import_module(f"dynamic_memory.embedded.apiserver.{found[0]}")
    made: Strategy = getattr(module, found[1])()
    if resource.version == resource.storage_version:
        return made
    from dynamic_memory.embedded.apiserver.strategies.claims import Versioned  # noqa: PLC0415 - rarely used

    return Versioned(resource, made)
