# SPDX-License-Identifier: Apache-2.0
"""Service addresses and names for a test cluster on one machine, without kube-proxy and CoreDNS.

Pods reach a Service by its cluster address and find it by name. A real cluster programs the kernel for the first and
runs a DNS server for the second; here each ClusterIP is an address of the loopback interface on which a forwarder
listens, and a few lines answer DNS from the same table. What is tested, our roles, cannot tell the difference.

The address of `kubernetes.default` goes to the API server's port on loopback. Other Services go to a ready endpoint,
chosen anew for each connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import itertools
import json
import socket
import ssl
import struct
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["ServiceNetwork"]

POLL_SECONDS = 0.3
CHUNK = 65536
DNS_HEADER = struct.Struct("!6H")


class ServiceNetwork:
    """Keeps forwarders and names equal to the Services of one cluster; `start` and `stop` from any thread.

    Args:
        server: URL of the API server on loopback.
        token: bearer token that may read services and endpointslices.
        dns_address: the address to answer DNS on (the kubelet's clusterDNS).
        domain: cluster domain.

    """

    def __init__(self, server: str, token: str, dns_address: str, domain: str = "cluster.local") -> None:
        self._server = server
        self._token = token
        self._dns_address = dns_address
        self._domain = domain
        self._names: dict[str, str] = {}
        self._endpoints: dict[tuple[str, int], list[tuple[str, int]]] = {}
        self._forwarders: dict[tuple[str, int], asyncio.Server] = {}
        self._addresses: set[str] = set()
        self._turn = itertools.count()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="service-network", daemon=True)
        self._stop = asyncio.Event()

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Give up what was never started."""
        self._loop.close()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=10)
        for address in self._addresses:
            subprocess.run(["ip", "address", "del", f"{address}/32", "dev", "lo"], check=False, capture_output=True)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        self._claim(self._dns_address)
        transport, _ = await self._loop.create_datagram_endpoint(
            lambda: _Dns(self._lookup), local_addr=(self._dns_address, 53)
        )
        while not self._stop.is_set():
            with contextlib.suppress(OSError, ValueError, http.client.HTTPException, subprocess.SubprocessError):
                services = await asyncio.to_thread(self._get, "/api/v1/services")
                slices = await asyncio.to_thread(self._get, "/apis/discovery.k8s.io/v1/endpointslices")
                await self._follow(services["items"], slices["items"])
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), POLL_SECONDS)
        transport.close()
        for forwarder in self._forwarders.values():
            forwarder.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # connections are closed by the loop's next turn
        await asyncio.sleep(0)

    def _get(self, path: str) -> Any:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        request = urllib.request.Request(self._server + path, headers={"Authorization": f"Bearer {self._token}"})
        with urllib.request.urlopen(request, context=context, timeout=5) as answer:
            return json.load(answer)

    async def _follow(self, services: list[dict[str, Any]], slices: list[dict[str, Any]]) -> None:
        names: dict[str, str] = {}
        endpoints: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for service in services:
            name, namespace = service["metadata"]["name"], service["metadata"]["namespace"]
            address = service["spec"].get("clusterIP", "None")
            if address in {"None", ""}:
                continue
            names[f"{name}.{namespace}.svc.{self._domain}"] = address
            for port in service["spec"].get("ports", []):
                targets = list(_ready(slices, namespace, name, port.get("name", "")))
                if (namespace, name) == ("default", "kubernetes"):
                    targets = [("127.0.0.1", int(self._server.rsplit(":", 1)[1]))]
                endpoints[address, port["port"]] = targets
        self._names, self._endpoints = names, endpoints
        for key in endpoints.keys() - self._forwarders.keys():
            self._claim(key[0])
            self._forwarders[key] = await asyncio.start_server(self._connection(key), host=key[0], port=key[1])
        for key in self._forwarders.keys() - endpoints.keys():
            self._forwarders.pop(key).close()

    def _claim(self, address: str) -> None:
        subprocess.run(["ip", "address", "replace", f"{address}/32", "dev", "lo"], check=True, capture_output=True)
        self._addresses.add(address)

    def _connection(self, key: tuple[str, int]) -> Callable[..., Any]:
        async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            targets = self._endpoints.get(key, [])
            try:
                if not targets:
                    return
                host, port = targets[next(self._turn) % len(targets)]
                there_reader, there_writer = await asyncio.open_connection(host, port)
                await asyncio.gather(_pump(reader, there_writer), _pump(there_reader, writer))
            except OSError:
                pass
            finally:
                writer.close()

        return forward

    def _lookup(self, name: str) -> str | None:
        return self._names.get(name)


def _ready(slices: list[dict[str, Any]], namespace: str, name: str, port: str) -> Iterator[tuple[str, int]]:
    for item in slices:
        meta = item["metadata"]
        if meta["namespace"] != namespace or meta.get("labels", {}).get("kubernetes.io/service-name") != name:
            continue
        numbers = [entry["port"] for entry in item.get("ports") or [] if entry.get("name", "") == port]
        for endpoint in item.get("endpoints") or []:
            if endpoint.get("conditions", {}).get("ready", True):
                yield from ((address, number) for address in endpoint["addresses"] for number in numbers)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class _Dns(asyncio.DatagramProtocol):
    """Answers A questions from a table; everything else does not exist (RFC 1035)."""

    def __init__(self, lookup: Callable[[str], str | None]) -> None:
        self._lookup = lookup
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        with contextlib.suppress(IndexError, struct.error, UnicodeDecodeError):
            self._transport.sendto(self._answer(data), addr)

    def _answer(self, data: bytes) -> bytes:
        identity, flags, *_ = DNS_HEADER.unpack_from(data)
        labels, position = [], DNS_HEADER.size
        while length := data[position]:
            labels.append(data[position + 1 : position + 1 + length].decode("ascii").lower())
            position += 1 + length
        question = data[DNS_HEADER.size : position + 5]
        (kind,) = struct.unpack_from("!H", data, position + 1)
        address = self._lookup(".".join(labels))
        found = address is not None and kind == 1
        code = 0 if address is not None else 3
        header = DNS_HEADER.pack(identity, 0x8400 | (flags & 0x0100) | 0x0080 | code, 1, int(found), 0, 0)
        if not found:
            return header + question
        assert address is not None
        return header + question + struct.pack("!HHHIH", 0xC00C, 1, 1, 5, 4) + socket.inet_aton(address)
