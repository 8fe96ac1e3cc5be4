# SPDX-License-Identifier: Apache-2.0
"""The start after a reboot: what the kubelet believes to be prepared has lost its memory (rule 14).

The kubelet keeps its own checkpoint over a reboot and does not call Prepare again. So the CDI files go first (no
container may start without its memory), the loop attaches every share again and then writes its file anew, and only
then the driver registers.
"""

from __future__ import annotations

import asyncio
import logging

from dynamic_memory.driver.node import Node
from dynamic_memory.driver.progress import Verdict
from dynamic_memory.process import clock

__all__ = ["attached_before", "reattach", "withdraw_specs"]

log = logging.getLogger(__name__)


def attached_before(node: Node) -> list[str]:
    """Return the keys of records that speak of an earlier boot."""
    return [
        record.key
        for record in node.records.all()
        if any(share.boot_id and share.boot_id != node.boot_id for share in record.shares)
    ]


def withdraw_specs(node: Node, keys: list[str]) -> None:
    """Remove the CDI files of claims whose memory is gone."""
    for key in keys:
        node.specs.remove(key)


async def reattach(node: Node, keys: list[str]) -> bool:
    """Wait until each of these claims is attached again, or released; False if the time was over before."""
    until = clock.monotonic() + node.timing.reboot
    done = await asyncio.gather(*(_settled(node, key, until) for key in keys))
    if not all(done):
        missing = sum(not each for each in done)
        log.error("not everything is attached again after the reboot", extra={"claims": missing})
    return all(done)


async def _settled(node: Node, key: str, until: float) -> bool:
    ticket = node.progress.ask(key)
    try:
        node.queue.add(key)
        seen = 0
        while (answer := await node.progress.wait(key, ticket, seen, until)) is not None:
            seen, outcomes = answer
            if all(outcome.verdict is not Verdict.WAITING for outcome in outcomes.values()):
                return True
    finally:
        node.progress.leave(key)
    return False
