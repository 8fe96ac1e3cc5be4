# SPDX-License-Identifier: Apache-2.0
"""Client libraries that follow a churn of config maps and pods: row A42. No lost event, no storm of lists."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from tests.embedded.support.churning import RESOURCES, Change, audited, churn
from tests.embedded.support.followers import FOLLOWERS, Followers
from tests.embedded.support.processes import server_process

LONG_SECONDS = float(os.environ.get("DYNAMIC_MEMORY_CHURN_SECONDS", "3600"))
WRITER = "Python"


async def test_A42_clients_see_each_change_once(tmp_path: Path) -> None:
    await churned(tmp_path, 3.0, 0.01, 1, FOLLOWERS)


@pytest.mark.long
@pytest.mark.timeout(LONG_SECONDS + 300)
async def test_A42_clients_see_each_change_once_for_an_hour(tmp_path: Path) -> None:
    from tests.embedded.support.informers import AGENT, client_go_follows

    await churned(tmp_path, LONG_SECONDS, 0.03, 60, {**FOLLOWERS, AGENT: client_go_follows})  # it needs Go


async def churned(folder: Path, seconds: float, pause: float, timeout: int, followers: Followers) -> None:
    """Churn under the eyes of all clients; `timeout` is how long one watch lasts, where a client can say so."""
    log, kubeconfig = folder / "audit.jsonl", folder / "kubeconfig"
    loop = asyncio.get_running_loop()
    start = loop.time()
    async with (
        server_process("--port", "0", "--audit-log", str(log), "--kubeconfig", str(kubeconfig)) as (_, client),
        contextlib.AsyncExitStack() as stack,
    ):
        seen = {
            agent: await stack.enter_async_context(follow(kubeconfig, timeout)) for agent, follow in followers.items()
        }
        await until(lambda: all(watching(log, agent) for agent in followers))
        written = await churn(client, seconds, pause)
        counts = {resource: len(changes) for resource, changes in written.changes.items()}
        await until(
            lambda: all(len(found.changes[each]) >= counts[each] for found in seen.values() for each in counts),
            check=False,
        )
        for agent, found in seen.items():
            for resource in RESOURCES:
                if not found.has_seen(written.changes[resource], resource):
                    pytest.fail(f"{agent}: {difference(found.changes[resource], written.changes[resource])}")
    lasted = loop.time() - start
    requests = audited(log)
    assert requests.pop(WRITER) == written.counts()
    assert set(requests) == set(followers), "clients have names"
    for agent, counts in requests.items():
        for resource in RESOURCES:
            assert counts.get(("list", resource), 0) <= 1, f"{agent} listed again"
            assert counts["watch", resource] <= lasted / timeout + 2, f"{agent} watched too often"


def difference(seen: list[Change], written: list[Change]) -> str:
    """Say where what was seen first differs from what was written; a whole hour of it would be too long to read."""
    at = next((n for n, (a, b) in enumerate(zip(seen, written, strict=False)) if a != b), min(len(seen), len(written)))
    return f"saw {len(seen)} of {len(written)} changes; from {at} on {seen[at : at + 3]}, not {written[at : at + 3]}"


def watching(log: Path, agent: str) -> bool:
    counts = audited(log).get(agent, {})
    return all(("watch", resource) in counts for resource in RESOURCES)


async def until(condition, *, check: bool = True) -> None:
    try:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - what is waited for is in a library or another process
                await asyncio.sleep(0.02)
    except TimeoutError:
        if check:
            raise
