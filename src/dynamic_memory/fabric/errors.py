# SPDX-License-Identifier: Apache-2.0
"""How a fabric refuses, as exceptions: the same classes are raised inside the service and by its client.

Between the two they travel as a gRPC status with details (`wire`), and arrive with all their fields.
"""

from __future__ import annotations

from dynamic_memory.errors import DynamicMemoryError, NeverError, NotHereError, RetryError

__all__ = [
    "BackendFailure",
    "BadArgument",
    "Conflicts",
    "Denied",
    "DeviceDown",
    "Exhausted",
    "FabricError",
    "Rejected",
    "Unauthenticated",
    "Unknown",
    "UnknownDevice",
    "UnknownNode",
    "Unreachable",
    "WindowFull",
]


class FabricError(DynamicMemoryError):
    """Root of what the Dynamic Memory Service, or the way to it, answers instead of success."""


class Unreachable(FabricError, RetryError):
    """The service, or the fabric behind it, did not answer: what was asked may or may not have been done."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return f"fabric does not answer: {self.why}"


class Exhausted(FabricError, NotHereError):
    """The pool device has too few bytes.

    Args:
        want: bytes asked for.
        have: bytes free.
        unreleased: bytes of the device that shares hold whose release was requested or is going on.
        held: bytes of the device that all shares hold, those included.

    """

    def __init__(self, want: int, have: int, unreleased: int = 0, held: int = 0) -> None:
        self.want = want
        self.have = have
        self.unreleased = unreleased
        self.held = held
        super().__init__(want, have, unreleased, held)

    @property
    def waiting(self) -> bool:
        """Whether it will fit once the bytes that are being released are back."""
        return self.want <= self.have + self.unreleased

    def __str__(self) -> str:
        text = f"insufficient dynamic memory: want {self.want}, have {self.have} bytes"
        return f"{text}, {self.unreleased} more are being released" if self.unreleased else text


class WindowFull(FabricError, NotHereError):
    """The host can map too few bytes, or too few extents.

    Args:
        want: bytes asked for.
        have: bytes that the host can still map.
        extents: extents that the host can still hold.
        want_extents: extents that the bytes would need; 0 if the bytes alone do not fit.

    """

    def __init__(self, want: int, have: int, extents: int, want_extents: int = 0) -> None:
        self.want = want
        self.have = have
        self.extents = extents
        self.want_extents = want_extents
        super().__init__(want, have, extents, want_extents)

    def __str__(self) -> str:
        if self.want_extents > self.extents:
            return f"window of the host: want {self.want_extents} extents, have {self.extents}"
        return f"window of the host: want {self.want}, have {self.have} bytes"


class BadArgument(FabricError, NeverError):
    """An argument is wrong whatever the state of the fabric is.

    Args:
        field: name of the argument.
        expected: what was expected, as half a sentence.

    """

    def __init__(self, field: str, expected: str) -> None:
        self.field = field
        self.expected = expected
        super().__init__(field, expected)

    def __str__(self) -> str:
        return f"{self.field}: expected {self.expected}"


class Unknown(FabricError, NeverError):
    """A name that the owner's configuration of the service does not have."""

    what = "object"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return f"unknown {self.what} {self.name!r}"


class UnknownNode(Unknown):
    """No host is configured for this node."""

    what = "node"


class UnknownDevice(Unknown):
    """No such pool device; the name is `<pool>/<device>`."""

    what = "device"


class Conflicts(FabricError, NeverError):
    """The tag is in use for something else.

    Args:
        tag: the tag.
        field: the first argument that differs; empty where the caller may not know.

    """

    def __init__(self, tag: str, field: str = "") -> None:
        self.tag = tag
        self.field = field
        super().__init__(tag, field)

    def __str__(self) -> str:
        return f"tag {self.tag} exists with another {self.field or 'owner'}"


class Denied(FabricError, NeverError):
    """The caller is known, and may not do this."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return f"denied: {self.why}"


class Unauthenticated(Denied):
    """The caller's certificate does not say, or does not prove, who it is."""


class DeviceDown(FabricError, NotHereError):
    """The pool device, or the path to the host, does not work at present.

    Args:
        name: which device or host.
        why: the fabric's reason in a few words.

    """

    def __init__(self, name: str, why: str) -> None:
        self.name = name
        self.why = why
        super().__init__(name, why)

    def __str__(self) -> str:
        return f"{self.name} is down: {self.why}"


class Rejected(FabricError, RetryError):
    """Not in this state: the host that holds the bytes has not been proven off."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return f"rejected: {self.why}"


class BackendFailure(FabricError, NotHereError):
    """The fabric tried and could not."""

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return f"fabric failed: {self.why}"
