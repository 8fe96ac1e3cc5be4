# SPDX-License-Identifier: Apache-2.0
"""Between the values of `model` and the messages that go over gRPC; `failures` does the same for errors."""

from __future__ import annotations

from dynamic_memory.fabric.errors import Unreachable
from dynamic_memory.fabric.model import (
    Attribute,
    Capacity,
    Change,
    HostWindow,
    PoolDevice,
    Range,
    Removed,
    RemovedState,
    Share,
    Snapshot,
)
from dynamic_memory.fabric.proto import fabric_pb2 as pb

__all__ = [
    "capacity_from",
    "capacity_to",
    "item_from",
    "item_to",
    "removed_from",
    "removed_to",
    "share_from",
    "share_to",
    "snapshot_from",
    "snapshot_to",
]

_STATE_TO = {
    RemovedState.DONE: pb.RemoveMemoryResponse.STATE_DONE,
    RemovedState.REQUESTED: pb.RemoveMemoryResponse.STATE_REQUESTED,
    RemovedState.UNKNOWN: pb.RemoveMemoryResponse.STATE_UNKNOWN,
}
_STATE_FROM = {number: state for state, number in _STATE_TO.items()}


def share_to(share: Share) -> pb.Share:
    """A share as message."""
    return pb.Share(
        tag=share.tag,
        owner=share.owner,
        node=share.node,
        pool=share.pool,
        device=share.device,
        size=share.size,
        ranges=[pb.Range(device_offset=extent.device_offset, size=extent.size) for extent in share.ranges],
        release_requested=share.release_requested,
    )


def share_from(message: pb.Share) -> Share:
    """A share from its message."""
    return Share(
        tag=message.tag,
        owner=message.owner,
        node=message.node,
        pool=message.pool,
        device=message.device,
        size=message.size,
        ranges=tuple(Range(extent.device_offset, extent.size) for extent in message.ranges),
        release_requested=message.release_requested,
    )


def removed_to(removed: Removed) -> pb.RemoveMemoryResponse:
    """Answer of RemoveMemory as message."""
    return pb.RemoveMemoryResponse(state=_STATE_TO[removed.state])


def removed_from(message: pb.RemoveMemoryResponse) -> Removed:
    """Answer of RemoveMemory from its message.

    Raises:
        Unreachable: a state that this version does not know; nothing may be concluded from it.

    """
    state = _STATE_FROM.get(message.state)
    if state is None:
        raise Unreachable(f"state {message.state} of RemoveMemory is not known to this version")
    return Removed(state=state)


def snapshot_to(snapshot: Snapshot) -> pb.Snapshot:
    """A snapshot as message."""
    return pb.Snapshot(revision=snapshot.revision, shares=[share_to(share) for share in snapshot.shares])


def snapshot_from(message: pb.Snapshot) -> Snapshot:
    """A snapshot from its message."""
    return Snapshot(revision=message.revision, shares=tuple(share_from(share) for share in message.shares))


def item_to(item: Snapshot | Change) -> pb.WatchResponse:
    """An item of a Watch as message."""
    if isinstance(item, Snapshot):
        return pb.WatchResponse(snapshot=snapshot_to(item))
    change = pb.Change(revision=item.revision)
    if item.share is not None:
        change.share.CopyFrom(share_to(item.share))
    elif item.removed_tag is not None:
        change.removed_tag = item.removed_tag
    elif item.capacity is not None:
        change.capacity.CopyFrom(capacity_to(item.capacity))
    return pb.WatchResponse(change=change)


def item_from(message: pb.WatchResponse) -> Snapshot | Change:
    """An item of a Watch from its message."""
    if message.WhichOneof("item") == "snapshot":
        return snapshot_from(message.snapshot)
    change = message.change
    match change.WhichOneof("what"):
        case "share":
            return Change(revision=change.revision, share=share_from(change.share))
        case "removed_tag":
            return Change(revision=change.revision, removed_tag=change.removed_tag)
        case "capacity":
            return Change(revision=change.revision, capacity=capacity_from(change.capacity))
    return Change(revision=change.revision)


def capacity_to(capacity: Capacity) -> pb.Capacity:
    """A capacity as message."""
    return pb.Capacity(
        revision=capacity.revision,
        simulated=capacity.simulated,
        pools=[
            pb.PoolDevice(
                pool=device.pool,
                device=device.device,
                domain=device.domain,
                total=device.total,
                free=device.free,
                unit=device.unit,
                healthy=device.healthy,
                why=device.why,
                attributes={name: _attribute_to(value) for name, value in device.attributes.items()},
            )
            for device in capacity.pools
        ],
        hosts=[
            pb.HostWindow(
                node=host.node,
                host=host.host,
                domain=host.domain,
                device=host.device,
                total=host.total,
                max_extents=host.max_extents,
                used=host.used,
                used_extents=host.used_extents,
                unit=host.unit,
                healthy=host.healthy,
                why=host.why,
                session=host.session,
                session_age_seconds=host.session_age,
                session_lapsed=host.session_lapsed,
            )
            for host in capacity.hosts
        ],
    )


def capacity_from(message: pb.Capacity) -> Capacity:
    """A capacity from its message."""
    return Capacity(
        revision=message.revision,
        simulated=message.simulated,
        pools=tuple(
            PoolDevice(
                pool=device.pool,
                device=device.device,
                domain=device.domain,
                total=device.total,
                free=device.free,
                unit=device.unit,
                healthy=device.healthy,
                why=device.why,
                attributes={
                    name: getattr(value, value.WhichOneof("value"))
                    for name, value in device.attributes.items()
                    if value.WhichOneof("value")
                },
            )
            for device in message.pools
        ),
        hosts=tuple(
            HostWindow(
                node=host.node,
                host=host.host,
                domain=host.domain,
                device=host.device,
                total=host.total,
                max_extents=host.max_extents,
                used=host.used,
                used_extents=host.used_extents,
                unit=host.unit,
                healthy=host.healthy,
                why=host.why,
                session=host.session,
                session_age=host.session_age_seconds if host.HasField("session_age_seconds") else None,
                session_lapsed=host.session_lapsed,
            )
            for host in message.hosts
        ),
    )


def _attribute_to(value: Attribute) -> pb.Attribute:
    if isinstance(value, bool):
        return pb.Attribute(bool=value)
    return pb.Attribute(int=value) if isinstance(value, int) else pb.Attribute(string=value)
