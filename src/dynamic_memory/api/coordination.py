# SPDX-License-Identifier: Apache-2.0
"""Wire types of `coordination.k8s.io/v1`: the Lease by which one replica of a role leads."""

from msgspec import field

from dynamic_memory.api.meta import ObjectMeta
from dynamic_memory.api.wire import Wire

__all__ = ["Lease", "LeaseSpec"]


class LeaseSpec(Wire, frozen=True, kw_only=True):
    """Who leads and until when; durations in seconds, times as RFC 3339 with microseconds."""

    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Lease(Wire, frozen=True, kw_only=True):
    """A lease; namespaced."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: LeaseSpec = field(default_factory=LeaseSpec)
