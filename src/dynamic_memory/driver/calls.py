# SPDX-License-Identifier: Apache-2.0
"""What the kubelet asks about and is told: the claim of a call, the devices of an answer, and why there is none."""

from __future__ import annotations

import msgspec

from dynamic_memory.errors import NeverError, RetryError

__all__ = ["ClaimRef", "Device", "NotPrepared", "NotReady"]


class ClaimRef(msgspec.Struct, frozen=True):
    """A claim as the kubelet names it."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """One prepared device, as the kubelet is told of it."""

    request: str
    pool: str
    device: str
    share_id: str
    cdi_ids: tuple[str, ...] = ()


class NotPrepared(NeverError):
    """The claim cannot be prepared as it is.

    Args:
        why: a sentence for people.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


class NotReady(RetryError):
    """The memory was not there in time.

    Args:
        reason: one of `names.Reason`; empty if nothing is known.
        message: what it waits for.

    """

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        self.message = message
        super().__init__(reason, message)

    def __str__(self) -> str:
        return f"memory is not ready: {self.reason}: {self.message}" if self.reason else self.message
