# SPDX-License-Identifier: Apache-2.0
"""What the kubelet reads of the API: metadata is typed, spec and status stay as they are on the wire.

A kubelet looks at nearly everything of a pod, and what it writes are statuses that it made itself.
"""

from typing import Any

from msgspec import field

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.api.wire import Kind, Wire

__all__ = ["CLAIMS", "LEASES", "NODES", "PODS", "SLICES", "Node", "Object", "Pod"]


class Object(Wire, frozen=True, kw_only=True):
    """Any object with spec and status."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: dict[str, Any] = {}
    status: dict[str, Any] = {}


Pod = Object
Node = Object

PODS = Kind(group="", version="v1", kind="Pod", plural="pods", namespaced=True, type=Object)
NODES = Kind(group="", version="v1", kind="Node", plural="nodes", namespaced=False, type=Object)
LEASES = Kind(group="coordination.k8s.io", version="v1", kind="Lease", plural="leases", namespaced=True, type=Object)
CLAIMS = Kind(
    group="resource.k8s.io", version="v1", kind="ResourceClaim", plural="resourceclaims", namespaced=True, type=Object
)
SLICES = Kind(
    group="resource.k8s.io", version="v1", kind="ResourceSlice", plural="resourceslices", namespaced=False, type=Object
)
