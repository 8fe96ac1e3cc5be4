# SPDX-License-Identifier: Apache-2.0
"""Random requests against a running server: a success or a proper Status, and what fails stores nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from tests.embedded.support.hostile import DEFINITION, KINDS, Sent, proper, requests
from tests.embedded.support.servers import Running, running
from yarl import URL

SECONDS = 60.0


class Fuzzed:
    """A server in a thread, and what it stores."""

    def __init__(self, server: Running, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self.events: list[Any] = []
        server.server.core.store.listen(self.events.append)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(SECONDS)

    async def check(self, sent: Sent) -> None:
        """Send a request; what it has to be about is made before, unless it is there."""
        client = self.server.client
        for kind in (DEFINITION, sent.kind):
            made = await client.create(KINDS[kind][0], proper(kind))
            assert made.code in {201, 404, 405, 409, 422}, made  # it may be on its way out, or forbidden by a policy
        await self.server.server.background.idle()
        self.events.clear()
        headers = {"Content-Type": sent.media, "Accept": sent.accept}
        url = URL(self.server.server.url + sent.path, encoded=True)
        async with client.session.request(
            sent.method, url, data=sent.body or None, headers=headers, allow_redirects=False
        ) as answer:
            if answer.status < 400:
                if answer.content_length is None:
                    answer.close()  # a watch
                return
            text = await answer.text()
            written = [(event.type, event.record.storage, event.record.key) for event in self.events]
        assert written == [], f"{answer.status}, but stored: {text}"
        if answer.status == 404 and text == "404 page not found\n":
            return
        status = yaml.safe_load(text) if "yaml" in answer.content_type else json.loads(text)
        assert (status["kind"], status["apiVersion"], status["status"]) == ("Status", "v1", "Failure")
        assert status["code"] == answer.status
        assert status["message"]
        # the real server has 500 for some bad patches too; it gives no reason then
        assert answer.status != 500 or not status.get("reason"), text

    async def alive(self) -> None:
        """Check that requests and what is done behind them still work."""
        client = self.server.client
        assert (await client.get("/healthz")).code == 200
        assert (await client.create("/api/v1/namespaces", {"metadata": {"name": "alive"}})).code == 201
        await client.eventually("/api/v1/namespaces/alive/serviceaccounts/default", lambda answer: answer.code == 200)


@contextlib.contextmanager
def fuzzed() -> Iterator[Fuzzed]:
    found: list[Fuzzed] = []
    ready = threading.Event()
    stop = asyncio.Event()

    async def serve() -> None:
        async with running() as server:
            found.append(Fuzzed(server, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(SECONDS)
    try:
        yield found[0]
    finally:
        found[0].loop.call_soon_threadsafe(stop.set)
        thread.join(SECONDS)


def batch(number: int, examples: int) -> None:
    """Send a number of requests to a new server."""
    with fuzzed() as server:

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(requests())
        def check(sent: Sent) -> None:
            server.run(server.check(sent))

        check()
        server.run(server.alive())


def test_random_requests_are_answered_and_what_fails_stores_nothing() -> None:
    batch(1, 60)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_random_requests_for_two_minutes() -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        number = random.SystemRandom().getrandbits(32)
        print(f"batch({number}, 500)")
        batch(number, 500)
