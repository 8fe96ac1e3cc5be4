# SPDX-License-Identifier: Apache-2.0
"""What is special about builtin kinds; each module is imported when its kind is first used."""

from __future__ import annotations

import importlib
from typing import Final

from dynamic_memory.embedded.apiserver.resource import DEFAULT_STRATEGY, Resource, Strategy

__all__ = ["strategy_of"]

_ADMISSION: Final = "admissionregistration.k8s.io"
_RBAC: Final = "rbac.authorization.k8s.io"
_STRATEGIES: Final = {
    ("", "ConfigMap"): ("strategies.core", "ConfigMapStrategy"),
    ("", "Event"): ("strategies.core", "EventStrategy"),
    ("", "Namespace"): ("strategies.core", "NamespaceStrategy"),
    ("", "Node"): ("strategies.core", "NodeStrategy"),
    ("", "Pod"): ("strategies.pods", "PodStrategy"),
    ("", "Secret"): ("strategies.core", "SecretStrategy"),
    ("", "Service"): ("strategies.services", "ServiceStrategy"),
    (_ADMISSION, "MutatingAdmissionPolicy"): ("strategies.policyobjects", "MutatingStrategy"),
    (_ADMISSION, "ValidatingAdmissionPolicy"): ("strategies.policyobjects", "ValidatingStrategy"),
    (_ADMISSION, "ValidatingAdmissionPolicyBinding"): ("strategies.policyobjects", "PolicyBindingStrategy"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"): ("crd.definition", "DefinitionStrategy"),
    ("apps", "DaemonSet"): ("strategies.workloads", "DaemonSetStrategy"),
    ("apps", "Deployment"): ("strategies.workloads", "DeploymentStrategy"),
    ("apps", "ReplicaSet"): ("strategies.workloads", "ReplicaSetStrategy"),
    ("apps", "StatefulSet"): ("strategies.workloads", "StatefulSetStrategy"),
    ("batch", "CronJob"): ("strategies.workloads", "CronJobStrategy"),
    ("batch", "Job"): ("strategies.workloads", "JobStrategy"),
    ("certificates.k8s.io", "CertificateSigningRequest"): ("strategies.access", "RequestStrategy"),
    ("coordination.k8s.io", "Lease"): ("strategies.core", "LeaseStrategy"),
    ("policy", "PodDisruptionBudget"): ("strategies.core", "BudgetStrategy"),
    (_RBAC, "ClusterRole"): ("strategies.access", "ClusterRoleStrategy"),
    (_RBAC, "ClusterRoleBinding"): ("strategies.access", "ClusterBindingStrategy"),
    (_RBAC, "Role"): ("strategies.access", "RoleStrategy"),
    (_RBAC, "RoleBinding"): ("strategies.access", "BindingStrategy"),
    ("resource.k8s.io", "DeviceClass"): ("strategies.claims", "ClassStrategy"),
    ("resource.k8s.io", "DeviceTaintRule"): ("strategies.slices", "TaintRuleStrategy"),
    ("resource.k8s.io", "ResourceClaim"): ("strategies.claims", "ClaimStrategy"),
    ("resource.k8s.io", "ResourceClaimTemplate"): ("strategies.claims", "TemplateStrategy"),
    ("resource.k8s.io", "ResourceSlice"): ("strategies.slices", "SliceStrategy"),
    ("scheduling.k8s.io", "PriorityClass"): ("strategies.core", "PriorityClassStrategy"),
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
