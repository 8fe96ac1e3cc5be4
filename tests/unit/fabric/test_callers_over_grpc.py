# SPDX-License-Identifier: Apache-2.0
"""Mutual TLS on a real socket: who may call the service, and whom a client talks to."""

from __future__ import annotations

import datetime as dt
import shutil
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.support.certificates import Authority
from tests.support.fake_fabric import share_of

from dynamic_memory.fabric.errors import Unauthenticated, Unreachable
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.process import clock

UNIT = 256 << 20


@pytest.mark.parametrize(
    ("identities", "why"),
    [
        ((), "names 0 identities"),
        (("https://example.org/n1",), "names 0 identities"),
        ((Identity.node("c1", "n1"), Identity.node("c1", "n2")), "names 2 identities"),
        (("dynamic-memory://c1/node/n1/x",), "expected dynamic-memory://"),
        (("DYNAMIC-MEMORY://c1/node/n1",), "expected dynamic-memory://"),
        (("dynamic-memory://c1/role/king",), "expected dynamic-memory://"),
        ((Identity.node("c9", "n1"),), "does not serve 'c9'"),
    ],
)
async def test_a_certificate_without_one_good_identity_is_refused(site, identities, why):
    client = site.connect(site.c1.issue(site.root / "odd", *identities))

    with pytest.raises(Unauthenticated, match=why):
        await client.list_extents()


async def test_rule_2_an_owners_authority_cannot_make_certificates_of_another(site):
    forged = site.client(Identity.role("c1", "controller"), authority=site.c2)

    with pytest.raises(Unauthenticated, match="not signed by an authority of 'c1'"):
        await forged.list_extents()
    assert (await site.role(owner="c2").list_extents()).shares == ()


async def test_a_certificate_of_a_strange_authority_does_not_connect(site):
    stranger = site.client(Identity.role("c1", "controller"), authority=Authority())

    with pytest.raises(Unreachable):
        await stranger.list_extents()


async def test_a_client_does_not_talk_to_a_strange_service(site):
    files = site.c1.issue(site.root / "careful", Identity.node("c1", "n1"), ca=Authority().pem)

    with pytest.raises(Unreachable):
        await site.connect(files).list_extents()


async def test_a_service_of_another_name_is_not_talked_to(site):
    with pytest.raises(Unreachable):
        await site.node(server_name="other.test").list_extents()
    await site.node(server_name="fabric.test").list_extents()


async def test_without_a_certificate_nobody_connects(site):
    channel = grpc.aio.secure_channel(site.listen, grpc.ssl_channel_credentials(site.c1.pem))
    async with channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=30)

    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def end_of(certificate):
    return x509.load_pem_x509_certificate(Path(certificate).read_bytes()).not_valid_after_utc


async def test_a_watch_ends_with_the_certificate(site, monkeypatch):
    files = site.c1.issue(site.root / "short", Identity.node("c1", "n1"), ca=site.c1.pem)
    expires = end_of(files.certificate)
    # by the clock of the service it has two seconds from whenever the watch begins
    monkeypatch.setattr(clock, "now", lambda: expires - dt.timedelta(seconds=2))
    client = site.connect(files)
    watch = aiter(client.watch())
    await anext(watch)

    with pytest.raises(Unauthenticated, match="expired"):
        await anext(watch)
    monkeypatch.setattr(clock, "now", lambda: expires)
    with pytest.raises(Unauthenticated, match="expired"):
        await client.list_extents()
    assert not site.service.sessions.alive("c1", "n1")


async def test_a_renewed_certificate_is_used_by_the_next_call(site):
    directory = site.root / "renewed"
    client = site.connect(site.c1.issue(directory, Identity.node("c1", "n1")))
    watch = aiter(client.watch())
    await anext(watch)
    assert [host.node for host in (await client.get_capacity()).hosts] == ["n1"]

    site.c1.issue(directory, Identity.node("c1", "n2"))

    assert [host.node for host in (await client.get_capacity()).hosts] == ["n2"]
    await site.node().add_memory(**share_of(size=UNIT))
    assert (await anext(watch)).share.node == "n1"
    await watch.aclose()


async def test_the_services_renewed_certificate_and_authorities_serve_the_next_connection(site):
    fresh = Authority()
    before = site.node()
    await before.list_extents()
    fresh.issue(site.root / "service", Identity.role("c1", "service"), dns=("fabric.test",), server=True)
    (site.root / "c1.crt").write_bytes(fresh.pem)

    files = fresh.issue(site.root / "after", Identity.node("c1", "n1"))
    await clock.sleep(1.1)

    await site.connect(files).list_extents()
    with pytest.raises(Unauthenticated, match="not signed"):
        await before.list_extents()


async def test_half_of_a_renewal_keeps_the_old_certificate(site):
    other = site.c1.issue(site.root / "half", Identity.role("c1", "service"), server=True)
    shutil.copyfile(other.key, site.root / "service" / "tls.key")

    await site.node().list_extents()
