# SPDX-License-Identifier: Apache-2.0
"""The embedded API server beside the real one: kube-apiserver with etcd, if their programs are built.

Each server runs in processes of its own and is asked over TLS by the same client, each phase in parts, by turns. GETs
are paced, and changes followed by a hundred watches, when the server has 10,000 objects. Printed are requests a
second, the median and the 99th percentile of the answer times, and the processor time that the server took for each
request; of changes that watches follow, how many a second reach all of them, and the times until the last has one.
etcd runs without fsync; the embedded server is shown in memory and, as `kept`, with a data folder (fsync). Machines are
noisy: only what one run prints can be compared.

    python -m tests.bench.bench_apiserver [--quick] [--only NAME …]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.bench.followers import CutOff, Followers
from tests.cluster.support.control_plane import ControlPlane
from tests.support.deployed import with_bytecode
from tests.support.ports import free_port

MERGE, APPLY = "application/merge-patch+json", "application/apply-patch+yaml"
MAPS = "/api/v1/namespaces/bench/configmaps"
Call = tuple[str, str, Any, str]
FULL = 10_000
"""Objects that the server has when its GETs are paced."""
STARTS = 3
"""Of each server; the median counts."""
PARTS = 4
"""Each phase is run in so many parts, in turns, so that what else the machine does meets all servers alike."""
TRIES = 5
"""Of a part in which a server cuts off a watch."""
PACED = "get, 100 clients at 10/s"
FOLLOWED = "100 watches, 50 writes/s"
GOALS = """goals: start-up < 0.5 s; requests/s >= 1.5 x real; memory <= 1/4 of real; p99 of paced GETs among
       10,000 objects < 50 ms; fan-out < 200 ms"""


class Connection:
    """One kept connection, one request at a time: as little client as possible."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(self, method: str, path: str, body: Any = None, media: str = "application/json") -> bytes:
        reader = await self.send(method, path, body, media)
        status, headers = await self.head()
        if headers.get(b"transfer-encoding") == b"chunked":
            parts = []
            while size := int((await reader.readline()).split(b";")[0], 16):
                parts.append((await reader.readexactly(size + 2))[:-2])
            await reader.readline()
            content = b"".join(parts)
        else:
            content = await reader.readexactly(int(headers.get(b"content-length", b"0")))
        if status >= 400:
            raise RuntimeError(f"{method} {path}: {status} {content[:300]!r}")
        return content

    async def send(self, method: str, path: str, body: Any, media: str) -> asyncio.StreamReader:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                "127.0.0.1", self._server.port, ssl=self._server.context, limit=2**24
            )
        assert self._reader is not None
        data = b"" if body is None else json.dumps(body).encode()
        self._writer.write(self._server.head(method, path, data, media) + data)
        return self._reader

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        assert self._reader is not None
        lines = (await self._reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in lines[1:] if line)
        return int(lines[0].split()[1]), headers

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(OSError, ssl.SSLError):
                await self._writer.wait_closed()


class Server:
    """A running server."""

    def __init__(self, name: str, port: int, context: ssl.SSLContext, token: str, pids: list[int]) -> None:
        self.name = name
        self.port = port
        self.context = context
        self.token = token
        self.pids = pids
        self.started = 0.0
        """Seconds until it was ready, and what that took of the processor."""
        self.started_cpu = 0.0

    def head(self, method: str, path: str, data: bytes, media: str) -> bytes:
        """Return the head of a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Accept: application/json", "User-Agent: bench/1"]
        lines += [f"Authorization: Bearer {self.token}"] if self.token else []
        lines += [f"Content-Type: {media}"] if media else []
        return "\r\n".join([*lines, f"Content-Length: {len(data)}", "", ""]).encode()

    def cpu(self) -> float:
        """Return the processor seconds that its processes took so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory(self) -> float:
        """Return resident MiB."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    async def ready(self, begin: float) -> None:
        """Wait until it answers."""
        while True:
            connection = Connection(self)
            try:
                await connection.call("GET", "/readyz")
                break
            except (OSError, RuntimeError, asyncio.IncompleteReadError, ssl.SSLError):
                if time.perf_counter() - begin > 120:
                    raise
            finally:
                await connection.close()
            await asyncio.sleep(0.01)
        self.started = time.perf_counter() - begin
        self.started_cpu = self.cpu()


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@contextlib.asynccontextmanager
async def real(folder: Path) -> AsyncIterator[Server]:
    plane = ControlPlane("1.37", folder)
    begin = time.perf_counter()
    try:
        plane.start()
        port = int(plane.server.rpartition(":")[2])
        pids = [child.pid for child in plane.children.values()]
        server = Server("real", port, plane.authority.context(), "admin", pids)
        await server.ready(begin)
        yield server
    finally:
        plane.stop()


@contextlib.asynccontextmanager
async def embedded(name: str, folder: Path, *, kept: bool) -> AsyncIterator[Server]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "dynamic_memory",
        "apiserver",
        "--port",
        str(port),
        "--tls",
        "--log-level",
        "error",
    ]
    if kept:
        command += ["--data-dir", str(folder / "data")]
    begin = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=subprocess.DEVNULL, env=with_bytecode(folder.parent / "bytecode")
    )
    try:
        server = Server(name, port, trusting(), "", [process.pid])
        await server.ready(begin)
        yield server
    finally:
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def named(name: str, folder: Path) -> AsyncIterator[Server]:
    """Run the real server, or one of ours, in a new folder."""
    place = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=folder))
    async with real(place) if name == "real" else embedded(name, place, kept=name in {"kept", "compiling"}) as server:
        yield server


# --- measuring


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


class Result:
    """What a phase measured: rate in 1/s, times in ms."""

    def __init__(self, times: list[float], seconds: float, cpu: float) -> None:
        self._times = times
        self._seconds = seconds
        self._cpu = cpu

    def __add__(self, other: Result) -> Result:
        return Result(self._times + other._times, self._seconds + other._seconds, self._cpu + other._cpu)

    @property
    def rate(self) -> float:
        return len(self._times) / self._seconds

    @property
    def median(self) -> float:
        return percentile(self._times, 0.5) * 1000

    @property
    def worst(self) -> float:
        return percentile(self._times, 0.99) * 1000

    @property
    def cpu(self) -> float:
        return self._cpu / len(self._times) * 1000

    def __str__(self) -> str:
        return f"{self.rate:8.0f}/s {self.median:7.1f} {self.worst:7.1f} ms {self.cpu:6.2f} ms CPU"


async def measure(server: Server, calls: Iterable[Call], clients: int = 16, pace: float = 0.0) -> Result:
    """Send calls over some connections; with a pace, each connection sends one every so many seconds."""
    queue = iter(list(calls))
    times: list[float] = []

    connections = [Connection(server) for _ in range(clients)]

    async def client(number: int) -> None:
        due = time.perf_counter() + pace * number / clients
        for call in queue:
            if pace:
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                due += pace
            begin = time.perf_counter()
            await connections[number].call(*call)
            times.append(time.perf_counter() - begin)

    try:
        await asyncio.gather(*(connection.call("GET", "/readyz") for connection in connections))
        before, begin = server.cpu(), time.perf_counter()
        await asyncio.gather(*(client(number) for number in range(clients)))
        return Result(times, time.perf_counter() - begin, server.cpu() - before)
    finally:
        for connection in connections:
            await connection.close()


def config_map(number: int, **data: str) -> dict[str, Any]:
    metadata = {"name": f"x{number}", "labels": {"app": "bench", "number": str(number)}}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": "1", "b": "x" * 200, **data}}


def creates(start: int, stop: int) -> Iterator[Call]:
    for number in range(start, stop):
        yield "POST", MAPS, config_map(number), "application/json"


def gets(count: int, among: int) -> Iterator[Call]:
    for number in range(count):
        yield "GET", f"{MAPS}/x{number * 7919 % among}", None, "application/json"


def patches(start: int, stop: int) -> Iterator[Call]:
    for number in range(start, stop):
        yield "PATCH", f"{MAPS}/x{number}", {"data": {"a": f"changed {number}"}}, MERGE


def applies(start: int, stop: int, among: int) -> Iterator[Call]:
    for number in range(start, stop):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"x{number % among}"}}
        body["data"] = {"applied": str(number // 2)}
        yield "PATCH", f"{MAPS}/x{number % among}?fieldManager=bench&force=true", body, APPLY


def lists(count: int) -> Iterator[Call]:
    for _ in range(count):
        yield "GET", MAPS, None, "application/json"


async def fan_out(server: Server, changes: int, pace: float) -> Result:
    """Measure the times from writes until the last of a hundred watches has them.

    The real server ends watches whose client gets no processor for some tenths of a second: then it is done once more.
    """
    for _ in range(TRIES):
        followers = Followers(server.port, server.context, server.head, MAPS, [f"x{each}" for each in range(16)], 100)
        try:
            before = server.cpu()
            times, seconds = followers.change(changes, pace)
            return Result(times, seconds, server.cpu() - before)
        except CutOff:
            print(f"{server.name} has cut off a watch; once more")
        finally:
            followers.close()
    raise RuntimeError(f"{server.name} cuts off watches")


async def run(quick: bool, only: list[str]) -> None:
    count = 500 if quick else 2000
    part = count // PARTS
    phases: dict[str, Callable[[Server, int], Awaitable[Result]]] = {
        "create": lambda server, at: measure(server, creates(at * part, (at + 1) * part)),
        "get": lambda server, _: measure(server, gets(2 * part, count)),
        "merge-patch": lambda server, at: measure(server, patches(at * part, (at + 1) * part)),
        "apply": lambda server, at: measure(server, applies(at * part, (at + 1) * part, count // 4)),
        f"list of {count}": lambda server, _: measure(server, lists(5), clients=2),
        f"create up to {FULL}": lambda server, at: measure(
            server, creates(count + at * (FULL - count) // PARTS, count + (at + 1) * (FULL - count) // PARTS)
        ),
        PACED: lambda server, _: measure(server, gets(3 * part, FULL), clients=100, pace=0.1),
        FOLLOWED: lambda server, _: fan_out(server, part // 5, 0.02),
        "100 watches, 16 writers": lambda server, _: fan_out(server, part, 0.0),
    }
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-apiserver-")))
        servers = []
        if set(only) != {"real"}:
            async with named("compiling", folder):
                pass
        for name in only:
            starts = []
            try:
                for _ in range(STARTS - 1):
                    async with named(name, folder) as server:
                        starts.append((server.started, server.started_cpu))
                servers.append(await stack.enter_async_context(named(name, folder)))
            except FileNotFoundError as error:
                print(f"without the real server: {error}")
                continue
            starts.append((servers[-1].started, servers[-1].started_cpu))
            wall, processor = (statistics.median(each) for each in zip(*starts, strict=True))
            print(f"{'start-up':26}{name:>10} {wall:10.2f} s {processor:22.2f} s CPU")
        for server in servers:
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "bench"}}
            await Connection(server).call("POST", "/api/v1/namespaces", namespace)
        print(f"{'':37}{'rate':>10} {'median':>7} {'p99':>10} {'a request':>10}")
        ratios: dict[str, dict[str, Result]] = {}
        for phase, measured in phases.items():
            found: dict[str, Result] = {}
            for at in range(PARTS):
                for server in servers:
                    result = await measured(server, at)
                    found[server.name] = found[server.name] + result if at else result
            ratios[phase] = found
            for name, result in found.items():
                print(f"{phase:26}{name:>10} {result}", flush=True)
        print(f"{'memory':26}" + "".join(f"{server.name:>10} {server.memory():6.0f} MiB" for server in servers))
        for name in [server.name for server in servers if server.name != "real" and "real" in ratios["create"]]:
            print(f"{name} against the real server:")
            for phase, found in ratios.items():
                ours, its = found[name], found["real"]
                if phase in {PACED, FOLLOWED}:
                    times = f"{ours.median:5.1f} ms, {ours.worst:.1f} at p99, not {its.median:.1f} and {its.worst:.1f}"
                else:
                    times = f"{ours.rate / its.rate:5.2f} x the requests a second"
                print(f"    {phase:26} {times}, {ours.cpu / its.cpu:5.2f} x the processor time of each")
        print(GOALS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a quarter of the requests")
    parser.add_argument("--only", nargs="+", default=["real", "embedded", "kept"], metavar="NAME")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.quick, arguments.only))


if __name__ == "__main__":
    main()
