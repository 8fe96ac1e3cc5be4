# SPDX-License-Identifier: Apache-2.0
"""The limit over all pods, as it is on this node, kept where it has to be; with the record of what the kubelet set."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from dynamic_memory.capacity import ceiling
from dynamic_memory.capacity.config import CeilingConfig
from dynamic_memory.host.cgroups import Ceiling, CeilingMissing, Unwritable, find_ceiling
from dynamic_memory.host.errors import Unreadable
from dynamic_memory.host.interface import Memory
from dynamic_memory.process import durable

__all__ = ["Lid", "LidState"]

log = logging.getLogger(__name__)


class LidState(msgspec.Struct, frozen=True, kw_only=True):
    """What became of it. Bytes.

    Attributes:
        limit: that holds now; None if there is none.
        wanted: that is right; None if there shall be none.
        usage: what pods use.
        error: why nothing could be done, if so.
        missing: there is no cgroup of pods.
        wrote: the limit was changed.

    """

    limit: int | None = None
    wanted: int | None = None
    usage: int = 0
    error: str = ""
    missing: bool = False
    wrote: bool = False


class Lid:
    """Keeps the limit; blocks for the time of reading and writing small files, so callers use a thread.

    Args:
        config: where things are.
        simulated: the host whose memory is counted is simulated.

    """

    def __init__(self, config: CeilingConfig, *, simulated: bool) -> None:
        self._config = config
        self._simulated = simulated
        self._ceiling: Ceiling | None = None

    def keep(self, memory: Memory, counted: int | None) -> LidState:
        """Look at the limit and set it if it has to be another.

        Args:
            memory: of the host, as just read.
            counted: bytes of memory that the kubelet last told of; None if that is not known.

        """
        try:
            found = self._ceiling = self._ceiling or find_ceiling(self._config.cgroup_root, self._config.path)
            return self._keep(found, memory, counted)
        except CeilingMissing as error:
            return LidState(error=str(error), missing=True)
        except Unreadable as error:
            self._ceiling = None  # the cgroup may have been made anew, under another name
            return LidState(error=str(error))
        except OSError as error:
            return LidState(error=f"{self._config.state}: {error.strerror}")

    def _keep(self, found: Ceiling, memory: Memory, counted: int | None) -> LidState:
        reading = found.read()
        record = self._remembered()
        plan = ceiling.plan(
            ceiling.Seen(
                boot=self._boot(),
                limit=reading.limit,
                usage=reading.usage,
                online=memory.fabric_online,
                total=memory.total,
                counted=counted,
                simulated=self._simulated,
            ),
            record,
        )
        if plan.record is not None and plan.record != record:
            self._config.state.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.write(self._config.state, msgspec.json.encode(plan.record))
        if plan.write is None:
            return LidState(limit=reading.limit, wanted=plan.wanted, usage=reading.usage)
        try:
            limit = found.write(plan.write)
        except Unwritable as error:
            return LidState(limit=reading.limit, wanted=plan.wanted, usage=reading.usage, error=str(error))
        log.info("limit of pods set", extra={"path": str(found.folder), "before": reading.limit, "after": limit})
        return LidState(limit=limit, wanted=plan.wanted, usage=reading.usage, wrote=True)

    def _remembered(self) -> ceiling.Record | None:
        data = durable.read(self._config.state)
        if data is None:
            return None
        try:
            return msgspec.json.decode(data, type=ceiling.Record)
        except msgspec.DecodeError:
            log.warning("%s is not a record of the limit, and is made anew", self._config.state)
            return None

    def _boot(self) -> str:
        path: Path = self._config.boot_id
        try:
            return path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            raise Unreadable(str(path), "the identity of the boot") from error
