# SPDX-License-Identifier: Apache-2.0
"""One rule for what is answered: it rests on what is on disk.

Readers see committed objects alone, and a write that stores something is answered when it is committed. But a write
starts from the newest state, on disk or not; when it is refused because of that state (404 by a deletion, 409 by a
creation, 429 by an eviction), the state must not be lost any more when the client hears of it. So refusals wait until
everything is on disk that was there when they were made; with nothing on its way they cost nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.errors import StatusError

__all__ = ["lasting"]

P = ParamSpec("P")
R = TypeVar("R")


class _Part(Protocol):
    """A part of the server that writes."""

    _core: Core


S = TypeVar("S", bound=_Part)


Write = Callable[Concatenate[S, P], Coroutine[Any, Any, R]]


def lasting(method: Write[S, P, R]) -> Write[S, P, R]:
    """Have a write's refusals wait for the disk."""

    @functools.wraps(method)
    async def waiting(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return await method(self, *args, **kwargs)
        except StatusError:
            await self._core.store.flushed()
            raise

    return waiting
