# SPDX-License-Identifier: Apache-2.0
"""How the conversation with a runtime fails, and how a plugin refuses on purpose."""

from __future__ import annotations

import enum

from dynamic_memory.errors import DynamicMemoryError, NeverError, RetryError

__all__ = ["CallFailed", "Code", "Disconnected", "NriError", "ProtocolError", "Refused", "UnsafeRuntime"]


class Code(enum.IntEnum):
    """Status codes of gRPC, as far as ttrpc and NRI use them."""

    OK = 0
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12


class NriError(DynamicMemoryError):
    """Root of what goes wrong between plugin and runtime."""


class Disconnected(NriError, RetryError):
    """The socket is closed, by whichever side.

    Args:
        why: what is known of the reason.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


class ProtocolError(NriError, RetryError):
    """The peer sent what no peer may send; nothing more can be understood, and the socket is closed.

    Args:
        what: what came, as half a sentence.

    """

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)

    def __str__(self) -> str:
        return f"protocol violated: {self.what}"


class CallFailed(NriError, RetryError):
    """A call was answered with an error, or not in time.

    Args:
        method: that was called.
        code: of the answer; see `Code`.
        message: of the answer.

    """

    def __init__(self, method: str, code: int, message: str) -> None:
        self.method = method
        self.code = code
        self.message = message
        super().__init__(method, code, message)

    def __str__(self) -> str:
        name = Code(self.code).name if self.code in Code.__members__.values() else f"code {self.code}"
        return f"{self.method}: {name}: {self.message}"


class UnsafeRuntime(NriError, NeverError):
    """The runtime is one that unsolicited updates can block for ever (NRI before 0.12.1, containerd#13733).

    Args:
        runtime: name and version.

    """

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        super().__init__(runtime)

    def __str__(self) -> str:
        return f"{self.runtime} has an NRI before 0.12.1, which an unsolicited update can block for ever"


class Refused(NriError, NeverError):
    """Raised by a hook: the pod or container must not start like this.

    Args:
        why: a sentence for the pod's owner; it ends up in an event of the pod.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why
