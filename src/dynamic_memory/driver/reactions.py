# SPDX-License-Identifier: Apache-2.0
"""What an error means for a share: wait and say why, or undo and let the scheduler look elsewhere.

The table of docs/driver.md is this function. Bytes that are on their way back are waited for, and so is whoever does
not answer: waiting keeps the allocation, and with it the account, true. Everything else is a failure of this node, and
is said in the node's slices before it is said in the claim: the scheduler allocates the same devices again within
milliseconds otherwise. Pure.
"""

from __future__ import annotations

import math

import msgspec

from dynamic_memory.api.names import Reason
from dynamic_memory.errors import DynamicMemoryError, RetryError
from dynamic_memory.fabric import errors as fabric
from dynamic_memory.host import errors as host

__all__ = ["FOREVER", "Patience", "Reaction", "on_attach", "on_release"]

FOREVER = math.inf


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long, in seconds, an attach waits for what may come.

    Attributes:
        orphans: for bytes that no one has been asked to release yet: the controller needs time to find an orphan.
        arrival: for composed extents to be seen by the host.
        host: for a host that answers too late.

    """

    orphans: float = 30.0
    arrival: float = 60.0
    host: float = 60.0


class Reaction(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about an error.

    Attributes:
        reason: for condition, event and metric.
        message: a sentence for people.
        patience: seconds to wait and try again, counted from the first such error; after them, or if it is 0, the
            attach has failed.
        publish: a failure is a fault of this node, which its slices have to say.

    """

    reason: Reason
    message: str
    patience: float
    publish: bool = True


def on_attach(error: DynamicMemoryError, patience: Patience, *, releasing: int = 0) -> Reaction:
    """Return what an error of an attach means.

    Args:
        error: what was raised.
        patience: how long to wait for what.
        releasing: bytes of this node that are being released now.

    """
    if isinstance(error, fabric.Exhausted):
        return _exhausted(error, patience)
    if isinstance(error, fabric.WindowFull):
        return _window_full(error, releasing)
    for types, reason, seconds, publish in _table(patience):
        if isinstance(error, types):
            return Reaction(reason=reason, message=str(error), patience=seconds, publish=publish)
    return Reaction(reason=Reason.ATTACH_FAILED, message=str(error), patience=0)


def _table(patience: Patience) -> tuple[tuple[tuple[type[DynamicMemoryError], ...], Reason, float, bool], ...]:
    """Classes, reason, seconds of patience, whether the node's slices have to say it; the first that fits counts."""
    return (
        ((fabric.Conflicts,), Reason.REFUSED, 0, False),
        ((fabric.BadArgument, fabric.Unknown, fabric.Denied), Reason.REFUSED, 0, True),
        ((fabric.DeviceDown, fabric.BackendFailure), Reason.ATTACH_FAILED, 0, True),
        ((host.NotArrived,), Reason.WAITING_FOR_MEMORY, patience.arrival, True),
        ((host.HostTimeout, host.Unreadable, host.NoRegion), Reason.ONLINING, patience.host, True),
        ((host.HostError,), Reason.ONLINE_FAILED, 0, True),
        ((RetryError,), Reason.FABRIC_UNREACHABLE, FOREVER, True),
    )


def _window_full(error: fabric.WindowFull, releasing: int) -> Reaction:
    if releasing and (error.want_extents > error.extents or error.want <= error.have + releasing):
        message = f"waiting for {releasing} bytes of this node that are being released; {error}"
        return Reaction(reason=Reason.WAITING_FOR_RELEASE, message=message, patience=FOREVER)
    return Reaction(reason=Reason.WINDOW_EXHAUSTED, message=str(error), patience=0)


def _exhausted(error: fabric.Exhausted, patience: Patience) -> Reaction:
    if error.waiting:
        return Reaction(reason=Reason.WAITING_FOR_RELEASE, message=str(error), patience=FOREVER)
    if error.want <= error.have + error.held:
        # the scheduler counts these bytes as free, so no claim owns them: their release has not been asked for yet
        return Reaction(
            reason=Reason.WAITING_FOR_RELEASE,
            message=f"{error}; waiting for bytes that no claim owns any more",
            patience=patience.orphans,
        )
    return Reaction(reason=Reason.NO_CAPACITY, message=str(error), patience=0)


def on_release(error: DynamicMemoryError) -> Reaction:
    """Return what an error of a release means: it is always tried again, for nothing else gets the bytes back."""
    match error:
        case host.Busy() | host.HostTimeout():
            reason = Reason.MEMORY_BUSY
        case fabric.Unreachable():
            reason = Reason.FABRIC_UNREACHABLE
        case _:
            reason = Reason.RELEASING
    return Reaction(reason=reason, message=str(error), patience=FOREVER)
