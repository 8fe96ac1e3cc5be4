# SPDX-License-Identifier: Apache-2.0
"""The ledger as the hooks of the NRI plugin read it: what prepared claims give, made from each record once.

A hook must not wait for a disk, so this is what the process knows. Another process of the driver may have prepared a
claim since: then its record is read, before a container is refused for it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from dynamic_memory.driver.records import ClaimRecord, Records
from dynamic_memory.driver.settings import ClaimSettings, settings_of
from dynamic_memory.errors import DynamicMemoryError

__all__ = ["PreparedClaims"]

log = logging.getLogger(__name__)


class PreparedClaims:
    """Prepared claims.

    Args:
        records: the ledger.

    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._made: dict[str, tuple[ClaimRecord, ClaimSettings | None]] = {}

    def get(self, uid: str) -> ClaimSettings | None:
        """Return a claim; None if it is not prepared."""
        record = self._records.get(uid)
        if record is None:
            self._made.pop(uid, None)
            return None
        known = self._made.get(uid)
        if known is None or known[0] is not record:
            known = self._made[uid] = (record, settings_of(record))
        return known[1]

    def owned_by(self, pod: str) -> Iterator[ClaimSettings]:
        """Return the claims that a pod owns, by UID; as quick with many claims as with few."""
        for record in self._records.owned_by(pod):
            claim = self.get(record.uid)
            if claim is not None:
                yield claim

    def by_owner(self) -> dict[str, list[ClaimSettings]]:
        """Return all claims that have an owner, by its UID."""
        found: dict[str, list[ClaimSettings]] = {}
        for record in self._records.all():
            claim = self.get(record.uid)
            if claim is not None and claim.owner is not None:
                found.setdefault(claim.owner.uid, []).append(claim)
        return found

    async def read(self, uid: str) -> bool:
        """Read the record of a claim; tell whether that was possible."""
        try:
            await self._records.refresh(uid)
        except (DynamicMemoryError, OSError) as error:
            log.warning("a record could not be read", extra={"claim": uid, "why": str(error)})
            return False
        return True
