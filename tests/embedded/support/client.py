# SPDX-License-Identifier: Apache-2.0
"""A small HTTP client: requests as kubectl sends them, answers decoded, watches as lists of events."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

__all__ = ["APPLY", "JSON_PATCH", "MERGE", "STRATEGIC", "TABLE", "Answer", "Client", "Watch"]

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
TABLE = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json"
)
SECONDS = 30.0
LARGE = 1 << 20


class Answer:
    """An answer: `code`, `headers`, `text`, and `json` decoded at first use."""

    def __init__(self, code: int, headers: Any, body: bytes) -> None:
        self.code = code
        self.headers = headers
        self.body = body

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def version(self) -> int:
        """The resourceVersion of the object or list."""
        return int(self.json["metadata"]["resourceVersion"])

    @property
    def warnings(self) -> list[str]:
        return [json.loads(value.partition(" - ")[2]) for value in self.headers.getall("Warning", ())]

    def __repr__(self) -> str:
        return f"<{self.code} {self.text[:500]}>"


class Watch:
    """An open watch. `seen` are all events so far, as (type, object)."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.response = response
        self.seen: list[tuple[str, Any]] = []
        self.ended = False
        self._changed = asyncio.Condition()
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        with contextlib.suppress(aiohttp.ClientError):
            async for line in self.response.content:
                event = json.loads(line)
                async with self._changed:
                    self.seen.append((event["type"], event["object"]))
                    self._changed.notify_all()
        async with self._changed:
            self.ended = True
            self._changed.notify_all()

    async def until(self, condition: Callable[[list[tuple[str, Any]]], Any]) -> list[tuple[str, Any]]:
        """Wait until the events so far satisfy a condition; gives up when nothing has come for a while."""
        async with self._changed:
            while not condition(self.seen) and not self.ended:
                async with asyncio.timeout(SECONDS):
                    await self._changed.wait()
        assert condition(self.seen), f"the watch ended with {self.names}"
        return self.seen

    async def count(self, number: int) -> list[tuple[str, str]]:
        """Wait for a number of events; return all as (type, name)."""
        await self.until(lambda seen: len(seen) >= number)
        return self.names

    async def end(self) -> list[tuple[str, Any]]:
        """Wait until the server ends the watch."""
        async with asyncio.timeout(SECONDS), self._changed:
            await self._changed.wait_for(lambda: self.ended)
        return self.seen

    @property
    def names(self) -> list[tuple[str, str]]:
        return [(kind, obj.get("metadata", {}).get("name", "")) for kind, obj in self.seen]

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.response.close()


class Client:
    """Sends requests to one server."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        media: str | None = None,
        accept: str | None = None,
        headers: dict[str, str] | None = None,
        **query: str,
    ) -> Answer:
        """Send one request; `body` is sent as it is if bytes, else as JSON."""
        sent = dict(headers or {})
        if accept is not None:
            sent["Accept"] = accept
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        if data is not None:
            sent["Content-Type"] = media or "application/json"
        stream = io.BytesIO(data) if data is not None and len(data) > LARGE else data
        async with self.session.request(method, path, params=query or None, data=stream, headers=sent) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, *, accept: str | None = None, **query: str) -> Answer:
        return await self.send("GET", path, accept=accept, **query)

    async def create(self, path: str, body: Any, **query: str) -> Answer:
        return await self.send("POST", path, body, **query)

    async def put(self, path: str, body: Any, **query: str) -> Answer:
        return await self.send("PUT", path, body, **query)

    async def patch(self, path: str, body: Any, media: str = MERGE, **query: str) -> Answer:
        return await self.send("PATCH", path, body, media=media, **query)

    async def apply(self, path: str, body: Any, manager: str = "test", **query: str) -> Answer:
        return await self.send("PATCH", path, body, media=APPLY, fieldManager=manager, **query)

    async def delete(self, path: str, body: Any = None, **query: str) -> Answer:
        return await self.send("DELETE", path, body, **query)

    @contextlib.asynccontextmanager
    async def watch(self, path: str, *, accept: str | None = None, **query: str) -> AsyncIterator[Watch]:
        """Open a watch."""
        sent = {"Accept": accept} if accept is not None else {}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self.session.get(
            path, params={"watch": "true", **query}, headers=sent, timeout=timeout, read_bufsize=1 << 22
        ) as response:
            assert response.status == 200, await response.text()
            watch = Watch(response)
            try:
                yield watch
            finally:
                await watch.close()

    async def eventually(self, path: str, condition: Callable[[Answer], Any]) -> Answer:
        """GET until the answer satisfies a condition."""
        async with asyncio.timeout(SECONDS):
            while True:
                answer = await self.get(path)
                if condition(answer):
                    return answer
                await asyncio.sleep(0.005)
