# SPDX-License-Identifier: Apache-2.0
"""Faults of the simulated fabric, injected by other processes through a file while the service runs.

The file stands beside the state file. It is read again whenever it changes, and at the latest with the next operation;
no file is no faults. A file that cannot be read is reported and changes nothing, so a half-written one does no harm.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.fabric.errors import BackendFailure
from dynamic_memory.process import clock

__all__ = ["Failure", "FaultFile", "Faults", "Operation"]

_log = logging.getLogger(__name__)

Operation = Literal["add", "remove", "read"]


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Operations that fail.

    Attributes:
        operation: which.
        times: how many of them, counted from the moment the file was read; None for all.
        reason: what the fabric says.
        device: only on this pool device, `<domain>/<name>`; any if empty.
        host: only for this host; any if empty.

    """

    operation: Operation
    times: int | None = None
    reason: str = "injected failure"
    device: str = ""
    host: str = ""

    def matches(self, operation: Operation, device: str, host: str) -> bool:
        """Whether an operation is one of those."""
        return self.operation == operation and self.device in {"", device} and self.host in {"", host}


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """The content of the file.

    Attributes:
        latency: seconds that each operation takes.
        failures: operations that fail.
        devices_down: pool devices (`<domain>/<name>`) that do not work, with the reason.
        hosts_down: hosts that the fabric cannot reach, with the reason.
        partition: the fabric manager does not answer the service at all.

    """

    latency: dict[Operation, float] = {}
    failures: tuple[Failure, ...] = ()
    devices_down: dict[str, str] = {}
    hosts_down: dict[str, str] = {}
    partition: bool = False


class FaultFile:
    """The faults that hold now.

    Args:
        path: the file; None for a fabric without faults, until `set` is called.
        latency: seconds that each operation takes where the file says nothing.

    """

    def __init__(self, path: Path | None, latency: Mapping[Operation, float] | None = None) -> None:
        self._path = path
        self._latency = dict(latency or {})
        self._signature: tuple[int, int, int] | None = None
        self._faults = Faults()
        self._failed: dict[int, int] = {}

    def set(self, faults: Faults) -> None:
        """Put faults in force, as if the file had changed to them."""
        self._faults = faults
        self._failed = {}

    def current(self) -> Faults:
        """The faults of the file as it is now."""
        if self._path is None:
            return self._faults
        try:
            status = self._path.stat()
            signature = (status.st_mtime_ns, status.st_size, status.st_ino)
            if signature != self._signature:
                self._signature = signature
                self.set(msgspec.json.decode(self._path.read_bytes(), type=Faults))
        except FileNotFoundError:
            if self._signature is not None:
                self._signature = None
                self.set(Faults())
        except (OSError, msgspec.DecodeError) as error:
            _log.warning(
                "faults of the simulated fabric not read", extra={"path": str(self._path), "error": str(error)}
            )
        return self._faults

    async def suffer(self, operation: Operation, device: str = "", host: str = "") -> None:
        """Take the time that an operation takes, and fail if it is to fail.

        Raises:
            BackendFailure: with the injected reason.

        """
        seconds = (self._latency | self.current().latency).get(operation, 0.0)
        if seconds > 0:
            await clock.sleep(seconds)
        for index, failure in enumerate(self.current().failures):
            if failure.matches(operation, device, host):
                failed = self._failed.get(index, 0)
                if failure.times is None or failed < failure.times:
                    self._failed[index] = failed + 1
                    raise BackendFailure(failure.reason)
