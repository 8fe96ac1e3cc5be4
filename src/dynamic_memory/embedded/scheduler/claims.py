# SPDX-License-Identifier: Apache-2.0
"""Claims as the scheduler knows them: what the watch says, what was written since, what was decided but not written.

The inventory always counts the newest of the three. A decision that is not written yet (an assumed allocation) stays
until it is written or given up, whatever the watch reports of the claim meanwhile; after the write the answer of the
API server counts until the watch has come as far. So a claim counts exactly once, at any moment.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dynamic_memory.allocation import Inventory, claim_key
from dynamic_memory.api.resource import AllocationResult, ResourceClaim
from dynamic_memory.kube.informer import Change, Informer

__all__ = ["DEVICES", "ClaimBook", "call_of"]

DEVICES = "devices"
"""What can help a pod whose claims cannot be allocated: claims that let go, other slices and classes."""


def call_of(namespace: str, name: str) -> str:
    """Return what is called in the queue when a claim changes."""
    return f"claim:{namespace}/{name}"


class ClaimBook:
    """See the module.

    Args:
        informer: the watch; the book does not subscribe itself.
        inventory: is kept up to date.

    """

    def __init__(self, informer: Informer[ResourceClaim], inventory: Inventory) -> None:
        self._informer = informer
        self._inventory = inventory
        self._written: dict[tuple[str, str], ResourceClaim] = {}
        self._assumed: dict[str, AllocationResult] = {}
        self.changes = 0
        """Grows with everything that may change what is free."""

    @property
    def assumed(self) -> Mapping[str, AllocationResult]:
        """Allocations that are not written yet, by UID of the claim."""
        return self._assumed

    def get(self, namespace: str, name: str) -> ResourceClaim | None:
        """Return the newest version of a claim that is known."""
        written = self._written.get((namespace, name))
        return written if written is not None else self._informer.get(name, namespace)

    def observe(self, change: Change[ResourceClaim]) -> list[str]:
        """Take in a change that the watch reports; return what to call in the queue.

        Raises:
            InvalidInput: a consumed capacity is no quantity.

        """
        self.changes += 1
        claim = change.object
        place = (claim.metadata.namespace, claim.metadata.name)
        calls = [call_of(*place)]
        if change.type == "deleted":
            written = self._written.get(place)
            if written is not None and written.metadata.uid == claim.metadata.uid:
                del self._written[place]
            held = self._assumed.pop(claim_key(claim), None) or _allocation(change.old) or _allocation(written)
            self._inventory.remove_claim(claim_key(claim))
            return [*calls, DEVICES] if held is not None else calls
        written = self._written.get(place)
        if written is not None:
            if written.metadata.uid == claim.metadata.uid and _version(claim) < _version(written):
                return calls
            del self._written[place]
        if claim_key(claim) not in self._assumed:
            self._inventory.put_claim(claim)
        before = _allocation(written) or _allocation(change.old)
        if before is not None and claim.status.allocation is None:
            calls.append(DEVICES)
        return calls

    def assume(self, claim: ResourceClaim, allocation: AllocationResult) -> None:
        """Count an allocation that was decided."""
        self.changes += 1
        self._assumed[claim_key(claim)] = allocation
        status = msgspec.structs.replace(claim.status, allocation=allocation)
        self._inventory.put_claim(msgspec.structs.replace(claim, status=status))

    def give_up(self, claim: ResourceClaim) -> None:
        """Count an assumed allocation no more."""
        if self._assumed.pop(claim_key(claim), None) is None:
            return
        self.changes += 1
        known = self.get(claim.metadata.namespace, claim.metadata.name)
        if known is None or known.metadata.uid != claim.metadata.uid:
            self._inventory.remove_claim(claim_key(claim))
        else:
            self._inventory.put_claim(known)

    def wrote(self, claim: ResourceClaim, *, settled: bool = True) -> None:
        """Take in what the API server answered to a write.

        Args:
            claim: the answer.
            settled: the write was the assumed allocation itself, or took one away.

        """
        self.changes += 1
        if settled:
            self._assumed.pop(claim_key(claim), None)
        place = (claim.metadata.namespace, claim.metadata.name)
        seen = self._informer.get(claim.metadata.name, claim.metadata.namespace)
        if seen is None or seen.metadata.uid != claim.metadata.uid:
            # It is gone already: the watch has said so, and will not again.
            self._inventory.remove_claim(claim_key(claim))
            return
        if _version(seen) < _version(claim):
            self._written[place] = claim
        else:
            claim = seen
        if claim_key(claim) not in self._assumed:
            self._inventory.put_claim(claim)


def _allocation(claim: ResourceClaim | None) -> AllocationResult | None:
    return None if claim is None else claim.status.allocation


def _version(claim: ResourceClaim) -> int:
    return int(claim.metadata.resource_version or 0)
