# SPDX-License-Identifier: Apache-2.0
"""Which labels a kubelet may give its node: any but those that clusters steer pods by. Pure.

Source: k8s.io/kubelet, `pkg/apis/well_known_labels.go`; k8s.io/kubernetes, `plugin/pkg/admission/noderestriction`.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["forbidden_labels"]

RESTRICTION = "node-restriction.kubernetes.io"
OURS = ("kubernetes.io", "k8s.io")
KUBELETS = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")


def forbidden_labels(new: Mapping[str, str], old: Mapping[str, str]) -> list[str]:
    """Return the keys that differ although a kubelet may not change them, in order."""
    changed = {key for key in new.keys() | old.keys() if new.get(key) != old.get(key)}
    return sorted(key for key in changed if not _allowed(key))


def _allowed(key: str) -> bool:
    prefix, slash, _ = key.partition("/")
    if not slash or not _within(prefix, OURS):
        return True
    if _within(prefix, (RESTRICTION,)):
        return False
    return key in KUBELETS or _within(prefix, PREFIXES)


def _within(prefix: str, domains: tuple[str, ...]) -> bool:
    return any(prefix == domain or prefix.endswith(f".{domain}") for domain in domains)
