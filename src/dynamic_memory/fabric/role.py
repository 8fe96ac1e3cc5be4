# SPDX-License-Identifier: Apache-2.0
"""The role `service`: backend, service and server put together, and taken apart in the right order."""

from __future__ import annotations

import asyncio
import logging

from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.fabric.metrics import Metrics
from dynamic_memory.fabric.server import Server
from dynamic_memory.fabric.service import Service
from dynamic_memory.process.run import Process

__all__ = ["main"]

_log = logging.getLogger(__name__)


async def main(process: Process, config: ServiceConfig) -> None:
    """Serve until cancelled.

    Raises:
        InvalidInput: what was configured cannot be used.
        RetryError: the fabric does not answer, or another process has it.

    """
    process.ready.set("fabric", False, "not open yet")
    backend = config.backend.open()
    await backend.open()
    if backend.simulated:
        _log.warning("the fabric is simulated: no memory is behind it")
    try:
        service = Service(config.directory(), backend, lapse=float(config.session_lapse), limits=config.limits)
        metrics = Metrics(service)
        try:
            server = await Server.start(config, service, metrics)
            try:
                process.ready.set("fabric", True)
                async with asyncio.TaskGroup() as group:
                    group.create_task(backend.run())
            finally:
                process.ready.set("fabric", False, "stopping")
                await server.stop()
        finally:
            metrics.close()
    finally:
        await backend.close()
