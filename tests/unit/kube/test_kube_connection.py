# SPDX-License-Identifier: Apache-2.0
"""Finding and reaching a cluster with the pinned lightkube: kubeconfig, TLS, tokens that are renewed, cut streams.

client.py uses parts of lightkube that it does not document (config.client_adapter); these tests are what holds them.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.metadata
import json
import ssl
from typing import Any, Self

import pytest
import trustme
from aiohttp import web

from dynamic_memory.api.kinds import NODES
from dynamic_memory.errors import InvalidInput
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.errors import Unauthorized, Unavailable
from dynamic_memory.kube.informer import Informer

NODE = {"metadata": {"name": "n", "resourceVersion": "5"}}


def test_lightkube_is_the_version_that_was_read():
    assert importlib.metadata.version("lightkube").startswith("1.0.")


class Server:
    """An API server with one node, behind TLS, for bearers of one token."""

    def __init__(self, tmp_path) -> None:
        self.tmp_path = tmp_path
        self.ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.token = "t1"
        self.requests: list[str] = []
        self.watches: list[web.StreamResponse] = []
        self.watched = asyncio.Event()
        self.certificates: list[Any] = []

    async def __aenter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ca.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA).configure_cert(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        self.ca.configure_trust(context)
        application = web.Application()
        application.router.add_get("/{tail:.*}", self.answer)
        self.runner = web.AppRunner(application, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        self.listener = site._server
        self.port = self.runner.addresses[0][1]
        return self

    async def __aexit__(self, *_) -> None:
        await self.runner.cleanup()
        # who has turned away in the middle of the handshake is not known to it
        async with asyncio.timeout(30):
            while self.listener._active_count:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.005)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request.path_qs)
        self.certificates.append(request.transport.get_extra_info("peercert"))
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.json_response({"code": 401, "reason": "Unauthorized", "message": "no"}, status=401)
        if "watch" not in request.query:
            if request.path.endswith("/nodes"):
                return web.json_response({"metadata": {"resourceVersion": "5"}, "items": [NODE]})
            return web.json_response(NODE)
        response = web.StreamResponse()
        await response.prepare(request)
        self.watches.append(response)
        self.watched.set()
        await response.write(json.dumps({"type": "ADDED", "object": NODE}).encode() + b"\n")
        await asyncio.sleep(30)
        return response

    def kubeconfig(self, *, ca: bool = True, name: str = "config", **user: Any) -> str:
        cluster: dict[str, Any] = {"server": f"https://127.0.0.1:{self.port}"}
        if ca:
            cluster["certificate-authority-data"] = base64.b64encode(self.ca.cert_pem.bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        path = self.tmp_path / name
        path.write_text(json.dumps(config))
        return str(path)


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as server:
        yield server


async def read(kubeconfig: str | None, context: str | None = None):
    client = Client.from_environment(kubeconfig, context)
    try:
        return await client.get(NODES, "n")
    finally:
        await client.close()


async def test_by_a_kubeconfig_with_a_token(server):
    assert (await read(server.kubeconfig(token="t1"))).metadata.name == "n"
    assert (await read(server.kubeconfig(token="t1"), "x")).metadata.name == "n"
    with pytest.raises(Unauthorized):
        await read(server.kubeconfig(token="t2"))


async def test_by_the_environment(server, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", server.kubeconfig(token="t1"))
    assert (await read(None)).metadata.name == "n"


async def test_with_a_client_certificate(server):
    issued = server.ca.issue_cert(common_name="admin", key_type=trustme.KeyType.ECDSA)
    data = {
        "client-certificate-data": base64.b64encode(issued.cert_chain_pems[0].bytes()).decode(),
        "client-key-data": base64.b64encode(issued.private_key_pem.bytes()).decode(),
    }
    assert (await read(server.kubeconfig(token="t1", **data))).metadata.name == "n"
    assert dict(item[0] for item in server.certificates[-1]["subject"])["commonName"] == "admin"


async def test_a_server_that_is_not_trusted_is_not_talked_to(server):
    with pytest.raises(Unavailable, match="certificate verify failed"):
        await read(server.kubeconfig(ca=False, token="t1"))
    assert server.requests == []


async def test_a_token_that_was_renewed_is_read_again(server):
    file = server.tmp_path / "token"
    file.write_text("t1\n")
    client = Client.from_environment(server.kubeconfig(tokenFile=str(file)))
    await client.get(NODES, "n")
    server.token = "t2"
    file.write_text("t2\n")
    await client.get(NODES, "n")
    server.token = "t3"
    with pytest.raises(Unauthorized):
        await client.get(NODES, "n")
    file.unlink()
    with pytest.raises(Unauthorized, match="no credentials"):
        await client.get(NODES, "n")
    file.write_text("t3")
    await client.get(NODES, "n")
    await client.close()


async def test_as_a_pod(server, monkeypatch, tmp_path):
    account = tmp_path / "account"
    account.mkdir()
    (account / "token").write_text("t1")
    (account / "namespace").write_text("ns")
    server.ca.cert_pem.write_to_path(account / "ca.crt")
    from lightkube.config.kubeconfig import KubeConfig

    find = KubeConfig.from_service_account.__func__
    monkeypatch.setattr(
        KubeConfig, "from_service_account", classmethod(lambda cls, **_: find(cls, service_account=account))
    )
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(server.port))
    assert (await read(None)).metadata.name == "n"


async def test_proxies_of_the_environment_are_not_used(server, monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await read(server.kubeconfig(token="t1"))).metadata.name == "n"


async def test_an_informer_survives_a_cut_connection(server):
    client = Client.from_environment(server.kubeconfig(token="t1"))
    informer = Informer(client, NODES)
    task = asyncio.create_task(informer.run())
    await informer.wait_synced()
    async with asyncio.timeout(30):
        for count in (1, 2):
            while len(server.watches) < count:
                await server.watched.wait()
                server.watched.clear()
            server.watches[-1]._req.transport.abort()
    assert [item.metadata.name for item in informer.all()] == ["n"]
    assert sum("limit=" in path for path in server.requests) == 1, "it goes on, it does not list again"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await client.close()


async def test_a_request_that_is_cancelled_before_the_server_speaks_leaves_no_connection(server):
    accepted: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    silent = await asyncio.start_server(lambda reader, writer: accepted.put((reader, writer)), "127.0.0.1", 0)
    server.port = silent.sockets[0].getsockname()[1]
    client = Client.from_environment(server.kubeconfig(token="t1"))
    request = asyncio.create_task(client.get(NODES, "n"))
    async with asyncio.timeout(30):
        reader, writer = await accepted.get()
        await reader.readexactly(1)  # the handshake has begun
        request.cancel()
        await asyncio.wait([request])
        await reader.read()  # until the client has closed the connection
    writer.close()
    silent.close()
    await client.close()


async def test_a_server_that_is_not_there(tmp_path):
    async with Server(tmp_path) as server:
        config = server.kubeconfig(token="t1")
    with pytest.raises(Unavailable, match="the API server does not answer"):
        await read(config)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update({"current-context": "y"}),
        lambda c: c.update({"contexts": None}),
        lambda c: c.pop("clusters"),
        lambda c: c["users"][0].update({"user": {"exec": {"apiVersion": "client.authentication.k8s.io/v1"}}}),
        lambda c: c["users"][0].update({"user": {"auth-provider": {"name": "x"}}}),
        lambda c: c["contexts"][0]["context"].pop("user"),
        lambda c: c["clusters"][0]["cluster"].update({"certificate-authority-data": "no base64!"}),
        lambda c: c["clusters"][0]["cluster"].update({"certificate-authority": "/none"}),
    ],
)
async def test_a_kubeconfig_that_will_not_do_is_bad_input(server, change):
    path = server.kubeconfig(token="t1")
    config = json.loads((server.tmp_path / "config").read_text())
    change(config)
    (server.tmp_path / "config").write_text(json.dumps(config))
    with pytest.raises(InvalidInput, match="kubeconfig"):
        Client.from_environment(path)


def test_files_that_are_no_kubeconfig(tmp_path, monkeypatch):
    for text in ("", "a: b: c", "[1]"):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(InvalidInput, match="kubeconfig"):
            Client.from_environment(str(tmp_path / "bad"))
    with pytest.raises(InvalidInput, match="not found"):
        Client.from_environment(str(tmp_path / "none"))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(InvalidInput, match="not found"):
        Client.from_environment()
