# SPDX-License-Identifier: Apache-2.0
"""Which pods wait for a driver that is not there (rule 22). Pure.

The scheduler holds a pod until its memory is attached, and says nothing meanwhile. If no driver runs on the chosen
node, nobody else says anything either until the scheduler's bindingTimeout, ten minutes by default.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dynamic_memory.controller.claims import ClaimKey, ClaimView, key_of, node_of, pods_of, shares_of

__all__ = ["Wait", "Waits", "message"]


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """A claim whose share nobody has attached yet.

    Attributes:
        claim: namespace and name.
        uid: uid of the claim.
        node: the node that it is allocated to.
        tag: its shareID.
        pods: name and uid of the pods that it is reserved for.
        since: when it was first seen so, monotonic seconds.
        reported: a driver wrote a condition for the share.

    """

    claim: ClaimKey
    uid: str
    node: str
    tag: str
    pods: tuple[tuple[str, str], ...]
    since: float
    reported: bool


class Waits:
    """Claims on their way, and which of them were spoken of."""

    def __init__(self, after: float) -> None:
        self._after = after
        self._waits: dict[ClaimKey, Wait] = {}
        self._told: set[str] = set()

    def update(self, claim: ClaimView, now: float) -> None:
        """Take over the state of a claim."""
        key, node = key_of(claim), node_of(claim)
        share = next((s for s in shares_of(claim) if not s.settled), None)
        if share is None or node is None or claim.metadata.deletion_timestamp is not None:
            self.remove(key)
            return
        old = self._waits.get(key)
        if old is not None and old.tag != share.tag:
            self._told.discard(old.tag)
        self._waits[key] = Wait(
            claim=key,
            uid=claim.metadata.uid,
            node=node,
            tag=share.tag,
            pods=tuple((pod.name, pod.uid) for pod in pods_of(claim)),
            since=old.since if old is not None and old.tag == share.tag else now,
            reported=share.reported,
        )

    def remove(self, key: ClaimKey) -> None:
        """Forget a claim that is gone, deallocated, or done."""
        old = self._waits.pop(key, None)
        if old is not None:
            self._told.discard(old.tag)

    def overdue(self, now: float) -> list[Wait]:
        """Return the claims that have waited for long, and that nothing was said of yet."""
        return [w for w in self._waits.values() if w.tag not in self._told and now >= w.since + self._after]

    def next_due(self) -> float | None:
        """Return when the next claim will have waited for long; monotonic seconds."""
        return min((w.since + self._after for w in self._waits.values() if w.tag not in self._told), default=None)

    def without_driver(self, now: float, sessions: Mapping[str, bool] | None) -> list[Wait]:
        """Return the overdue claims whose driver is not there.

        Args:
            now: monotonic seconds.
            sessions: for each node whether its driver watches the service; None if the service does not answer. Then
                only a claim that no driver has written a word about counts: a driver that lives writes that at once.

        """
        return [w for w in self.overdue(now) if (not w.reported if sessions is None else not sessions.get(w.node))]

    def told(self, wait: Wait) -> None:
        """Remember that this share was spoken of."""
        self._told.add(wait.tag)


def message(node: str, binding_timeout: float) -> str:
    """Return what pod and claim are told."""
    return (
        f"waits for fabric memory on node {node}, but no dynamic-memory driver is running there; "
        f"the scheduler tries again, perhaps on another node, when its bindingTimeout of {binding_timeout:g} s is over"
    )
