# SPDX-License-Identifier: Apache-2.0
"""What Go writes of fields that nobody set: structs are never absent, and some numbers are not left out.

New objects of builtin kinds have it, and nobody owns it. Source: types.go of k8s.io/api of Kubernetes 1.37.
"""

from __future__ import annotations

from typing import Any, Final

from dynamic_memory.embedded.apiserver.resource import StorageKey
from dynamic_memory.embedded.apiserver.schema import clone

__all__ = ["fill_zeros"]

_ZEROS: Final[dict[tuple[str, str], dict[str, dict[str, Any]]]] = {
    ("", "persistentvolumeclaims"): {"status": {"phase": "Pending"}},
    ("", "persistentvolumes"): {"status": {"phase": "Pending"}},
    ("", "replicationcontrollers"): {"status": {"replicas": 0}},
    ("", "resourcequotas"): {"status": {}},
    ("admissionregistration.k8s.io", "validatingadmissionpolicies"): {"status": {}},
    ("apps", "daemonsets"): {
        "status": {
            "currentNumberScheduled": 0,
            "numberMisscheduled": 0,
            "desiredNumberScheduled": 0,
            "numberReady": 0,
        }
    },
    ("apps", "deployments"): {"status": {}},
    ("apps", "replicasets"): {"status": {"replicas": 0}},
    ("apps", "statefulsets"): {"status": {"replicas": 0, "availableReplicas": 0}},
    ("batch", "cronjobs"): {"status": {}},
    ("batch", "jobs"): {"status": {}},
    ("coordination.k8s.io", "leases"): {"spec": {}},
    ("networking.k8s.io", "ingresses"): {"status": {"loadBalancer": {}}},
    ("policy", "poddisruptionbudgets"): {
        "status": {"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0}
    },
    ("resource.k8s.io", "deviceclasses"): {"spec": {}},
    ("resource.k8s.io", "devicetaintrules"): {"status": {}},
    ("storage.k8s.io", "csinodes"): {"status": {}},
    ("storage.k8s.io", "volumeattachments"): {"status": {"attached": False}},
}


def fill_zeros(storage: StorageKey, obj: dict[str, Any]) -> None:
    """Fill in, in place, the parts of a new object that it does not have."""
    for name, value in _ZEROS.get(storage, {}).items():
        if obj.get(name) is None:
            obj[name] = clone(value)
