# SPDX-License-Identifier: Apache-2.0
"""The three kinds of failure, and the root of every exception of this project.

A caller decides by *kind* alone what to do: try again later, try elsewhere, or give up. Each exception class says which
kind it is, carries its data as fields, and makes its text from them; a text is for people, never for decisions.
"""

from __future__ import annotations

import enum

__all__ = ["DynamicMemoryError", "InvalidInput", "Kind", "NeverError", "NotHereError", "RetryError"]


class Kind(enum.Enum):
    """What a failure means for the one who asked."""

    RETRY = "retry"
    """The same call may succeed later: try again with back-off."""
    NOT_HERE = "not-here"
    """Not on this node (or pool device): somewhere else it may work."""
    NEVER = "never"
    """The request itself is wrong: repeating it cannot help."""


class DynamicMemoryError(Exception):
    """Root of all exceptions that this project raises on purpose."""

    kind: Kind = Kind.NEVER


class RetryError(DynamicMemoryError):
    """A failure that may pass: lost connections, busy memory, bytes not back yet."""

    kind = Kind.RETRY


class NotHereError(DynamicMemoryError):
    """A failure of this node or pool device; another may do."""

    kind = Kind.NOT_HERE


class NeverError(DynamicMemoryError):
    """A failure that no repetition mends."""

    kind = Kind.NEVER


class InvalidInput(NeverError):
    """Input refused where it entered.

    Args:
        path: where in the input, as people write it (`spec.devices.requests[0].name`).
        expected: what was expected there, as half a sentence.
        got: what stood there, shortened for display; None if nothing did.

    """

    def __init__(self, path: str, expected: str, got: object = None) -> None:
        self.path = path
        self.expected = expected
        self.got = got
        super().__init__(path, expected, got)

    def __str__(self) -> str:
        shown = "" if self.got is None else f", got {self._shortened()}"
        return f"{self.path}: expected {self.expected}{shown}"

    def _shortened(self) -> str:
        text = repr(self.got)
        limit = 80
        return text if len(text) <= limit else f"{text[: limit - 3]}..."
