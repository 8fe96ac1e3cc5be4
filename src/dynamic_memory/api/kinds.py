# SPDX-License-Identifier: Apache-2.0
"""The kinds of object that this project reads or writes, by the names the API server gives them."""

from typing import TypeVar

from dynamic_memory.api import certificates, coordination, core, meta, resource
from dynamic_memory.api.wire import Kind

__all__ = [
    "CONFIG_MAPS",
    "CSRS",
    "DEVICE_CLASSES",
    "LEASES",
    "NAMESPACES",
    "NODES",
    "PODS",
    "RESOURCE_CLAIMS",
    "RESOURCE_CLAIM_TEMPLATES",
    "RESOURCE_SLICES",
    "SECRETS",
    "partial",
]

T = TypeVar("T")

RESOURCE = "resource.k8s.io"


def _kind(group: str, kind: str, plural: str, type_: type[T], *, namespaced: bool = True) -> Kind[T]:
    return Kind(group=group, version="v1", kind=kind, plural=plural, namespaced=namespaced, type=type_)


PODS = _kind("", "Pod", "pods", core.Pod)
NODES = _kind("", "Node", "nodes", core.Node, namespaced=False)
NAMESPACES = _kind("", "Namespace", "namespaces", core.Namespace, namespaced=False)
SECRETS = _kind("", "Secret", "secrets", core.Secret)
CONFIG_MAPS = _kind("", "ConfigMap", "configmaps", core.ConfigMap)
LEASES = _kind("coordination.k8s.io", "Lease", "leases", coordination.Lease)
CSRS = _kind(
    "certificates.k8s.io",
    "CertificateSigningRequest",
    "certificatesigningrequests",
    certificates.CertificateSigningRequest,
    namespaced=False,
)
RESOURCE_CLAIMS = _kind(RESOURCE, "ResourceClaim", "resourceclaims", resource.ResourceClaim)
RESOURCE_CLAIM_TEMPLATES = _kind(
    RESOURCE, "ResourceClaimTemplate", "resourceclaimtemplates", resource.ResourceClaimTemplate
)
RESOURCE_SLICES = _kind(RESOURCE, "ResourceSlice", "resourceslices", resource.ResourceSlice, namespaced=False)
DEVICE_CLASSES = _kind(RESOURCE, "DeviceClass", "deviceclasses", resource.DeviceClass, namespaced=False)


def partial(kind: Kind[T]) -> Kind[meta.PartialObject]:
    """Return `kind` decoded to its metadata alone."""
    return Kind(
        group=kind.group,
        version=kind.version,
        kind=kind.kind,
        plural=kind.plural,
        namespaced=kind.namespaced,
        type=meta.PartialObject,
    )
