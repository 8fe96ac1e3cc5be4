# SPDX-License-Identifier: Apache-2.0
"""Pages of a list: all of them show one snapshot.

The first page keeps what follows (references, no copies) for a few minutes under the resource version of the list, and
the continue token names that version and the last object shown. A token whose snapshot is gone gets 410 together with a
token that goes on with the newest state, as the real server does.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import bisect
import json
from typing import NamedTuple

from dynamic_memory.embedded.apiserver.errors import StatusError, bad_request
from dynamic_memory.embedded.apiserver.records import Key, Record

__all__ = ["Page", "Snapshots", "Token", "decode_token"]

SECONDS = 300.0
KEPT = 256
NEWEST = -1
_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class Token(NamedTuple):
    """Where a list goes on."""

    version: int
    """Of the snapshot; -1 = what is there now."""
    after: Key

    def encode(self) -> str:
        """Return it as clients hand it back."""
        start = "/".join(self.after) if self.after[0] else self.after[1]
        text = json.dumps({"v": "meta.k8s.io/v1", "rv": self.version, "start": f"{start}\0"})
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def decode_token(text: str) -> Token:
    """Return the token that a client handed back.

    Raises:
        StatusError: 400, it is none of ours.

    """
    try:
        raw = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        namespace, _, name = raw["start"].removesuffix("\0").rpartition("/")
        return Token(int(raw["rv"]), (namespace, name))
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        text = "invalid continue token: continue key is not valid: encoded value is not a continue token"
        raise bad_request(text) from error


class Page(NamedTuple):
    """Some objects of a list, the version of the list, the token of the next page and how many are left."""

    records: list[Record]
    version: int
    token: str
    remaining: int


class ExpiredToken(StatusError):
    """410 with a token to go on with."""

    def __init__(self, after: Key) -> None:
        super().__init__(410, "Expired", _EXPIRED)
        self._token = Token(NEWEST, after).encode()

    def status(self) -> dict[str, object]:
        """Return the Status object."""
        return {**super().status(), "metadata": {"continue": self._token}}


class Snapshots:
    """The lists that are being paged through."""

    def __init__(self) -> None:
        self._kept: dict[tuple[object, int], tuple[float, list[Record]]] = {}

    def first(self, name: object, records: list[Record], version: int, limit: int) -> Page:
        """Return the first page of a list; `name` says what list it is (kind and selectors)."""
        if len(records) > limit > 0:
            self._forget()
            self._kept[name, version] = (self._now() + SECONDS, records)
        return _cut(records, 0, version, limit)

    def more(self, name: object, token: Token, limit: int) -> Page:
        """Return a further page.

        Raises:
            StatusError: 410, the snapshot is no longer kept.

        """
        until, records = self._kept.get((name, token.version), (0.0, []))
        if until <= self._now():
            raise ExpiredToken(token.after)
        at = bisect.bisect_right(records, token.after, key=lambda record: record.key)
        return _cut(records, at, token.version, limit)

    def expire(self) -> None:
        """Forget all snapshots."""
        self._kept.clear()

    def _forget(self) -> None:
        now = self._now()
        for key in [key for key, (until, _) in self._kept.items() if until <= now]:
            del self._kept[key]
        while len(self._kept) >= KEPT:
            del self._kept[next(iter(self._kept))]

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def _cut(records: list[Record], at: int, version: int, limit: int) -> Page:
    end = at + limit if limit > 0 else len(records)
    page = records[at:end]
    remaining = max(0, len(records) - end)
    return Page(page, version, Token(version, page[-1].key).encode() if remaining else "", remaining)
