# SPDX-License-Identifier: Apache-2.0
"""What a runtime can tell a plugin, and how much of it a runtime of a given version knows. Pure."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable

import msgspec

__all__ = ["DEFAULT_TIMEOUT", "Event", "Runtime", "mask", "version"]

DEFAULT_TIMEOUT = 2.0
"""Seconds that a runtime waits for an answer if it does not say."""

_VERSION = re.compile(r"v?(\d+)\.(\d+)(?:\.(\d+))?")


class Event(enum.IntEnum):
    """Events by their number on the wire; 12 to 14 since NRI 0.10."""

    RUN_POD_SANDBOX = 1
    STOP_POD_SANDBOX = 2
    REMOVE_POD_SANDBOX = 3
    CREATE_CONTAINER = 4
    POST_CREATE_CONTAINER = 5
    START_CONTAINER = 6
    POST_START_CONTAINER = 7
    UPDATE_CONTAINER = 8
    POST_UPDATE_CONTAINER = 9
    STOP_CONTAINER = 10
    REMOVE_CONTAINER = 11
    UPDATE_POD_SANDBOX = 12
    POST_UPDATE_POD_SANDBOX = 13
    VALIDATE_CONTAINER_ADJUSTMENT = 14


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """The runtime as it presents itself in Configure.

    Attributes:
        name: `containerd`, `cri-o`.
        version: of the runtime.
        nri: its version of NRI; empty before 0.12.
        request_timeout: seconds that it waits for an answer before it goes on without the plugin, for ever.
        registration_timeout: seconds that it waits for a plugin to register.
        config: the plugin's configuration if the runtime has started it.

    """

    name: str
    version: str
    nri: str = ""
    request_timeout: float = DEFAULT_TIMEOUT
    registration_timeout: float = 5.0
    config: str = ""

    @property
    def nri_version(self) -> tuple[int, int, int]:
        """Its version of NRI, or the oldest that it can have."""
        if self.nri:
            # a field of 0.12: a text that is no version (a development build) has to be at least that
            return version(self.nri) or (0, 12, 0)
        release = version(self.version)
        if self.name != "containerd" or release is None:
            return (0, 2, 0)
        if release >= (2, 2, 0):
            return (0, 10, 0)
        return (0, 8, 0) if release >= (2, 0, 0) else (0, 2, 0)

    @property
    def last_event(self) -> Event:
        """The highest event that it knows; a plugin that asks for more is refused."""
        known = Event.VALIDATE_CONTAINER_ADJUSTMENT if self.nri_version >= (0, 10, 0) else Event.REMOVE_CONTAINER
        return Event(known)

    @property
    def takes_updates(self) -> bool:
        """Whether an unsolicited update cannot block it (fixed in 0.12.1)."""
        return self.nri_version >= (0, 12, 1)

    @property
    def shows_cdi(self) -> bool:
        """Whether it tells the CDI devices of containers (containerd 2.4)."""
        return self.name == "containerd" and (version(self.version) or (0, 0, 0)) >= (2, 4, 0)

    @property
    def has_memory_policy(self) -> bool:
        """Whether it applies a memory policy."""
        return self.nri_version >= (0, 12, 0)

    def __str__(self) -> str:
        return f"{self.name} {self.version}" + (f" (NRI {self.nri})" if self.nri else "")


def version(text: str) -> tuple[int, int, int] | None:
    """Return major, minor and patch of `v0.12.3` and the like; what follows is ignored; None if it is no version."""
    found = _VERSION.match(text)
    if found is None:
        return None
    major, minor, patch = found.groups(default="0")
    return int(major), int(minor), int(patch)


def mask(events: Iterable[Event], runtime: Runtime) -> int:
    """Return the mask that subscribes to those of the events that the runtime knows.

    Never 0, which would mean all of them: who wants nothing gets the event that is rarest.
    """
    wanted = sum(1 << (event - 1) for event in set(events) if event <= runtime.last_event)
    return wanted or 1 << (Event.REMOVE_POD_SANDBOX - 1)
