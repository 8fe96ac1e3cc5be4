# SPDX-License-Identifier: Apache-2.0
"""What drivers that ended, and reboots, leave behind: sockets of the dead, CDI files of nobody, files that are missing.

Whoever leads looks at all of it before it begins, and at missing files again every now and then.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path

from dynamic_memory.driver import kubelet_state, sockets
from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.driver.node import Node
from dynamic_memory.driver.records import ClaimRecord
from dynamic_memory.errors import InvalidInput

__all__ = ["Leftovers"]

log = logging.getLogger(__name__)


class Leftovers:
    """See the module.

    Args:
        node: what the driver knows and has.
        config: where the kubelet looks.

    """

    def __init__(self, node: Node, config: DriverConfig) -> None:
        self._node = node
        self._config = config

    async def sweep_sockets(self) -> None:
        """Remove the sockets of drivers that were killed."""
        folders = {"plugin_folder": self._config.plugin_folder, "registry_folder": self._config.registry_folder}
        try:
            for path in await asyncio.to_thread(lambda: sockets.sweep(**folders)):
                log.info("socket of a driver that was killed removed", extra={"path": str(path)})
        except OSError as error:
            log.warning("sockets of drivers that were killed cannot be removed", extra={"error": str(error)})

    async def sweep_records(self) -> None:
        """Remove halves of records."""
        try:
            await self._node.records.sweep()
        except OSError as error:
            log.warning("halves of records cannot be removed", extra={"error": str(error)})

    async def prune_specs(self) -> None:
        """Remove CDI files that no record tells of; a driver that ends may still be writing both, the record first."""

        def told() -> set[str]:
            return {record.uid for record in self._node.records.all() if record.prepared or record.offered}

        try:
            found = await asyncio.to_thread(self._node.specs.found)
            for uid in {*found.values()} - {"", *told()}:
                with contextlib.suppress(InvalidInput):  # the name of no claim of ours
                    await self._node.records.refresh(uid)
            for name in self._node.specs.prune(told(), found):
                log.info("stale CDI file removed", extra={"file": name})
        except OSError as error:
            # no container is given them; the next driver that leads tries again
            log.warning("stale CDI files cannot be removed", extra={"error": str(error)})

    async def restore_specs(self) -> None:
        """Write the CDI files of the node's own memory that are missing: a reboot removes all of them (tmpfs).

        A claim may be released meanwhile, also by another process. So each file is written while its record is locked
        and says so: whoever changes the record after that removes the file once more.
        """
        for known in self._node.records.all():
            told = known.prepared or known.offered
            if told is None or not known.local or told.tag:
                continue
            try:
                if not await asyncio.to_thread(self._node.specs.says, known.uid, told.spec):
                    await self._node.records.update(known.key, self._restore_spec)
            except OSError as error:
                log.warning("CDI file not restored", extra={"uid": known.uid, "error": str(error)})

    def _restore_spec(self, record: ClaimRecord | None) -> ClaimRecord | None:
        told = (record.prepared or record.offered) if record is not None else None
        if record is not None and told is not None and record.local and not told.tag:
            self._node.specs.write(record.uid, told.spec)
        return record

    async def forget_stale(self) -> None:
        """Drop what was prepared for claims that neither the cluster nor the kubelet knows any more."""
        known = await asyncio.to_thread(kubelet_state.read, Path(self._config.kubelet_root))
        for record in self._node.records.all():
            if not record.local or record.shares or known is None or record.uid in known:
                continue
            if self._node.claims.get(record.uid) is None:
                log.warning("nobody knows this claim any more", extra={"uid": record.uid, "claim": record.name})
                try:
                    await self._forget(record)
                except OSError as error:
                    log.warning("what it took stays taken", extra={"uid": record.uid, "error": str(error)})

    async def _forget(self, record: ClaimRecord) -> None:
        self._node.specs.remove(record.uid)
        if self._node.metadata is not None:
            self._node.metadata.remove(record.uid)
        await self._node.records.update(record.key, lambda found: found and found.without_local())
