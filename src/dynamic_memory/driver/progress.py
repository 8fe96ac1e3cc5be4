# SPDX-License-Identifier: Apache-2.0
"""How Prepare and Unprepare learn what the loop found: outcomes of handlings that began after they asked.

An outcome of a handling that began earlier may be about a world that is gone: a release must not be called done because
nothing was there just before an attach in flight came home.
"""

from __future__ import annotations

import asyncio
import enum

import msgspec

from dynamic_memory.process import clock

__all__ = ["Outcome", "Progress", "Verdict"]


class Verdict(enum.StrEnum):
    """Where a share stands."""

    READY = "ready"
    RELEASED = "released"
    WAITING = "waiting"
    REFUSED = "refused"


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one handling found for one share; `reason` and `message` say what is waited for, `delay` until when."""

    verdict: Verdict
    reason: str = ""
    message: str = ""
    delay: float = 0.0


class _Claim:
    """Tickets, outcomes by tag, and who waits."""

    def __init__(self) -> None:
        self.ticket = 0
        self.answered = 0
        self.sequence = 0
        self.outcomes: dict[str, Outcome] = {}
        self.changed = asyncio.Event()
        self.waiters = 0


class Progress:
    """Outcomes by key of a record; kept only while somebody waits for them."""

    def __init__(self) -> None:
        self._claims: dict[str, _Claim] = {}

    def ask(self, key: str) -> int:
        """Take a ticket: outcomes of handlings that begin from now on count. `leave` must follow."""
        claim = self._claims.setdefault(key, _Claim())
        claim.waiters += 1
        claim.ticket += 1
        return claim.ticket

    def leave(self, key: str) -> None:
        """Stop waiting."""
        claim = self._claims[key]
        claim.waiters -= 1
        if not claim.waiters:
            del self._claims[key]

    def begin(self, key: str) -> int:
        """Return the ticket that a handling which begins now answers."""
        claim = self._claims.get(key)
        return claim.ticket if claim else 0

    def finish(self, key: str, ticket: int, outcomes: dict[str, Outcome]) -> None:
        """Tell those who wait what a handling found."""
        claim = self._claims.get(key)
        if claim is None:
            return
        claim.outcomes = outcomes
        claim.answered = ticket
        claim.sequence += 1
        claim.changed.set()
        claim.changed = asyncio.Event()

    async def wait(self, key: str, ticket: int, seen: int, until: float) -> tuple[int, dict[str, Outcome]] | None:
        """Wait for outcomes.

        Args:
            key: of the record.
            ticket: what `ask` gave.
            seen: 0, or what the last `wait` returned first, to wait for the next ones.
            until: end of the wait on the monotonic clock.

        Returns:
            A number for `seen`, and outcomes by tag; None when the time is over.

        """
        claim = self._claims[key]
        while claim.answered < ticket or claim.sequence <= seen:
            changed, left = claim.changed, until - clock.monotonic()
            if left <= 0:
                return None
            try:
                async with asyncio.timeout(left):
                    await changed.wait()
            except TimeoutError:
                return None
        return claim.sequence, claim.outcomes
