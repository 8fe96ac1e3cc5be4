# SPDX-License-Identifier: Apache-2.0
"""What the models do not say of builtin kinds: short names, categories, selectable fields, and who shares a store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["CATEGORIES", "EXTRA_SUBRESOURCES", "MODULES", "NOT_STORED", "SELECTABLE", "SHORT_NAMES", "field_value"]

MODULES: Final = (
    "core_v1",
    "apps_v1",
    "authentication_v1",
    "authorization_v1",
    "autoscaling_v2",
    "autoscaling_v1",
    "batch_v1",
    "certificates_v1",
    "networking_v1",
    "policy_v1",
    "rbac_authorization_v1",
    "storage_v1",
    "admissionregistration_v1",
    "apiextensions_v1",
    "scheduling_v1",
    "coordination_v1",
    "node_v1",
    "discovery_v1",
    "events_v1",
    "resource_v1",
    "resource_v1beta2",
    "resource_v1beta1",
)
"""Modules of lightkube.resources that are served."""

SHORT_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "certificatesigningrequests": ("csr",),
    "configmaps": ("cm",),
    "cronjobs": ("cj",),
    "customresourcedefinitions": ("crd", "crds"),
    "daemonsets": ("ds",),
    "deployments": ("deploy",),
    "endpoints": ("ep",),
    "events": ("ev",),
    "horizontalpodautoscalers": ("hpa",),
    "ingresses": ("ing",),
    "limitranges": ("limits",),
    "namespaces": ("ns",),
    "networkpolicies": ("netpol",),
    "nodes": ("no",),
    "persistentvolumeclaims": ("pvc",),
    "persistentvolumes": ("pv",),
    "poddisruptionbudgets": ("pdb",),
    "pods": ("po",),
    "priorityclasses": ("pc",),
    "replicasets": ("rs",),
    "replicationcontrollers": ("rc",),
    "resourcequotas": ("quota",),
    "serviceaccounts": ("sa",),
    "services": ("svc",),
    "statefulsets": ("sts",),
    "storageclasses": ("sc",),
}

CATEGORIES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "pods",
            "services",
            "replicationcontrollers",
            "deployments",
            "replicasets",
            "daemonsets",
            "statefulsets",
            "jobs",
            "cronjobs",
            "horizontalpodautoscalers",
        ),
        ("all",),
    ),
    **dict.fromkeys(
        (
            "customresourcedefinitions",
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ),
        ("api-extensions",),
    ),
}

NOT_STORED: Final = frozenset(
    {
        "Binding",
        "LocalSubjectAccessReview",
        "SelfSubjectAccessReview",
        "SelfSubjectReview",
        "SelfSubjectRulesReview",
        "SubjectAccessReview",
        "TokenReview",
    }
)
"""Kinds that are questions: answered, not kept."""

_INVOLVED: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
SELECTABLE: Final[dict[tuple[str, str], tuple[str, ...]]] = {
    ("", "pods"): (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    ("", "nodes"): ("spec.unschedulable",),
    ("", "namespaces"): ("status.phase", "name"),
    ("", "secrets"): ("type",),
    ("", "services"): ("spec.clusterIP", "spec.type"),
    ("", "replicationcontrollers"): ("status.replicas",),
    ("", "events"): (
        *(f"involvedObject.{name}" for name in _INVOLVED),
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    ("events.k8s.io", "events"): (
        *(f"regarding.{name}" for name in _INVOLVED),
        "reason",
        "reportingController",
        "type",
    ),
    ("apps", "replicasets"): ("status.replicas",),
    ("batch", "jobs"): ("status.successful",),
    ("certificates.k8s.io", "certificatesigningrequests"): ("spec.signerName",),
    ("resource.k8s.io", "resourceslices"): ("spec.nodeName", "spec.driver", "spec.pool.name"),
}
"""Fields beside metadata.name and metadata.namespace, by group and plural."""

EXTRA_SUBRESOURCES: Final[dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]]] = {
    "pods": (
        ("attach", "PodAttachOptions", ("create", "get")),
        ("exec", "PodExecOptions", ("create", "get")),
        ("portforward", "PodPortForwardOptions", ("create", "get")),
        ("proxy", "PodProxyOptions", ("create", "delete", "get", "patch", "update")),
    ),
    "nodes": (("proxy", "NodeProxyOptions", ("create", "delete", "get", "patch", "update")),),
    "services": (("proxy", "ServiceProxyOptions", ("create", "delete", "get", "patch", "update")),),
}
"""Subresources that are connections, by plural in the core group: name, kind, verbs."""

_ALIASES: Final = {
    "source": "source.component",
    "name": "metadata.name",
    "status.successful": "status.succeeded",
}
_UNSET: Final = {
    "spec.hostNetwork": "false",
    "spec.unschedulable": "false",
    "status.replicas": "0",
    "status.successful": "0",
}


def field_value(obj: Mapping[str, Any], path: str) -> str | None:
    """Return what a field selector of a builtin kind compares: "" or the zero of the type where nothing is set."""
    value: Any = obj
    for name in _ALIASES.get(path, path).split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    if value is None:
        return _UNSET.get(path, "")
    return str(value).lower() if isinstance(value, bool) else str(value)
