# SPDX-License-Identifier: Apache-2.0
"""A page in a browser of this machine reaches nothing: other origins, and names that were pointed to loopback."""

from __future__ import annotations

import pytest
from tests.embedded.support.servers import Running, running

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "evil.example.com:80", "localhost.example.com", "10.0.0.1:80", "[::2]", "a b", "[x", "@"],
)
async def test_a_name_that_is_not_the_servers_is_refused(running_server: Running, host: str) -> None:
    client = running_server.client
    for method in ("GET", "POST"):
        answer = await client.send(method, MAPS, {"metadata": {"name": "x"}}, headers={"Host": host})
        assert (answer.code, answer.json["reason"]) == (400, "BadRequest"), answer
    assert (await client.get(f"{MAPS}/x")).code == 404


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "localhost.:5", "127.0.0.1", "127.1.2.3:7", "[::1]:8"])
async def test_names_and_addresses_of_loopback_are_the_servers(running_server: Running, host: str) -> None:
    answer = await running_server.client.send("GET", MAPS, headers={"Host": host})
    assert answer.code == 200, answer


async def test_more_names_are_those_that_were_given() -> None:
    async with running(tls_hosts=("API.example.com",)) as server:
        for host, code in (("api.example.com:1", 200), ("other.example.com", 400), ("10.0.0.1", 400)):
            assert (await server.client.send("GET", MAPS, headers={"Host": host})).code == code


async def test_a_server_for_every_address_has_every_address_but_no_name() -> None:
    async with running(bind="0.0.0.0") as server:
        port = server.server.address.rpartition(":")[2]
        for host, code in (("10.0.0.1", 200), ("evil.example.com", 400)):
            path = f"http://127.0.0.1:{port}{MAPS}"
            async with server.client.session.get(path, headers={"Host": host}) as answer:
                assert answer.status == code


async def test_another_origin_is_refused(running_server: Running) -> None:
    client, own = running_server.client, running_server.server.url
    port = own.rpartition(":")[2]
    for origin in ("https://evil.example.com", "null", "http://localhost:1", f"https://127.0.0.1:{port}"):
        for method in ("GET", "POST", "DELETE"):
            answer = await client.send(method, MAPS, {"metadata": {"name": "x"}}, headers={"Origin": origin})
            assert (answer.code, answer.json["reason"]) == (403, "Forbidden"), answer
    answer = await client.send("POST", MAPS, {"metadata": {"name": "x"}}, headers={"Origin": own})
    assert answer.code == 201, answer
