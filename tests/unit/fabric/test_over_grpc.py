# SPDX-License-Identifier: Apache-2.0
"""The service over a real socket: what arrives is what was said, and it goes on after each loss."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.support.fake_fabric import share_of

from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import client
from dynamic_memory.fabric.backends.faults import Failure, Faults
from dynamic_memory.fabric.client import FabricClient, TlsFiles
from dynamic_memory.fabric.errors import (
    BackendFailure,
    BadArgument,
    Conflicts,
    Denied,
    DeviceDown,
    Exhausted,
    Rejected,
    UnknownDevice,
    UnknownNode,
    Unreachable,
    WindowFull,
)
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.model import RemovedState, Snapshot
from dynamic_memory.fabric.proto import fabric_pb2, fabric_pb2_grpc
from dynamic_memory.fabric.server import SERVICE_NAME
from dynamic_memory.process import clock

GIB = 1 << 30
UNIT = 256 << 20


async def test_everything_arrives_as_it_was_said(site):
    driver, controller = site.node(), site.role()
    wanted = share_of(size=3 * GIB)
    watch = aiter(controller.watch())
    first = await anext(watch)
    assert isinstance(first, Snapshot)
    assert first.shares == ()

    share = await driver.add_memory(**wanted)

    caller = Identity.role("c1", "controller")
    assert share == (await site.service.list_extents(caller)).shares[0]
    assert (await anext(watch)).share == share
    assert await driver.list_extents() == await controller.list_extents() == await site.service.list_extents(caller)
    assert await controller.get_capacity() == await site.service.get_capacity(caller)
    assert (await controller.get_capacity()).pools[0].attributes == {"latencyNs": 250, "model": "sim", "volatile": True}
    assert [host.node for host in (await controller.get_capacity("n2")).hosts] == ["n2"]
    assert (await controller.remove_memory(share.tag)).state is RemovedState.REQUESTED
    assert (await anext(watch)).share.release_requested
    assert (await driver.remove_memory(share.tag)).state is RemovedState.DONE
    assert (await anext(watch)).removed_tag == share.tag
    assert (await driver.remove_memory(share.tag)).state is RemovedState.UNKNOWN
    site.inject(Faults(devices_down={"rack-1/cxl1": "lost"}))
    assert (await anext(watch)).capacity == await controller.get_capacity()
    await watch.aclose()


async def test_every_failure_arrives_with_its_fields(site):
    driver, controller = site.node(), site.role()
    held = share_of(size=7 * GIB)
    await driver.add_memory(**held)
    await controller.remove_memory(held["tag"])

    async def failure(call, kind):
        with pytest.raises(kind) as refused:
            await call
        assert type(refused.value) is kind
        return vars(refused.value)

    assert await failure(site.node("n2").add_memory(**share_of("n2", 2 * GIB)), Exhausted) == {
        "want": 2 * GIB,
        "have": GIB,
        "unreleased": 7 * GIB,
        "held": 7 * GIB,
    }
    assert await failure(driver.add_memory(**share_of(size=2 * GIB, device="cxl1")), WindowFull) == {
        "want": 2 * GIB,
        "have": GIB,
        "extents": 7,
        "want_extents": 0,
    }
    bad = await failure(driver.add_memory(**share_of(size=1)), BadArgument)
    assert bad["field"] == "bytes"
    assert await failure(driver.add_memory(**{**held, "size": UNIT}), Conflicts) == {
        "tag": held["tag"],
        "field": "bytes",
    }
    assert await failure(controller.get_capacity("n9"), UnknownNode) == {"name": "n9"}
    assert await failure(driver.add_memory(**share_of(device="x")), UnknownDevice) == {"name": "fabric/rack-1/x"}
    assert "n2" in (await failure(driver.add_memory(**share_of("n2")), Denied))["why"]
    assert "lapses" in (await failure(_off(site, controller, held["tag"]), Rejected))["why"]
    site.inject(Faults(devices_down={"rack-1/cxl0": "lost link"}))
    assert (await failure(driver.add_memory(**share_of()), DeviceDown))["why"] == "lost link"
    site.inject(Faults(failures=(Failure("add", 1, "no luck"),)))
    assert await failure(driver.add_memory(**share_of()), BackendFailure) == {"why": "no luck"}
    site.inject(Faults(partition=True))
    assert "cut off" in (await failure(driver.list_extents(), Unreachable))["why"]


async def _off(site, controller, tag):
    watch = aiter(site.node().watch())
    await anext(watch)
    try:
        return await controller.remove_memory(tag, host_off=True)
    finally:
        await watch.aclose()


@pytest.mark.parametrize("size", [0, -1, -(1 << 80), 1 << 62, 1 << 80])
async def test_absurd_sizes_are_refused_whatever_their_width(site, size):
    with pytest.raises(BadArgument):
        await site.node().add_memory(**share_of(size=size))


@pytest.mark.parametrize("field", ["pool", "device", "tag"])
async def test_long_names_are_refused_by_name(site, field):
    with pytest.raises(BadArgument) as refused:
        await site.node().add_memory(**{**share_of(), field: "x" * 5000})

    assert refused.value.field == field


async def test_a_message_beyond_all_bounds_is_refused(site):
    with pytest.raises(Unreachable, match="RESOURCE_EXHAUSTED"):
        await site.node().add_memory(**{**share_of(), "device": "x" * 100_000})


async def test_proxies_of_the_environment_are_not_used(site, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert (await site.node().list_extents()).shares == ()


# --- how it goes on ---


class Held:
    """Makes the additions of a site wait until they may go on."""

    def __init__(self, site, monkeypatch) -> None:
        self.begun, self.go_on, self.orders = asyncio.Event(), asyncio.Event(), []
        self._compose = site.backend.compose
        monkeypatch.setattr(site.backend, "compose", self._held)

    async def _held(self, order):
        self.orders.append(order)
        self.begun.set()
        await self.go_on.wait()
        return await self._compose(order)


async def test_an_addition_that_is_slower_than_the_deadline_is_found_by_the_next_call(site, monkeypatch):
    monkeypatch.setattr(client, "_SLACK", 30.0)
    held = Held(site, monkeypatch)
    patient, hasty = site.node(), site.node()
    await hasty.list_extents()  # connected, which takes its time
    hasty._deadline = 0.2
    wanted = share_of()
    adding = asyncio.create_task(patient.add_memory(**wanted))
    await held.begun.wait()
    for _ in range(2):
        with pytest.raises(Unreachable, match="DEADLINE_EXCEEDED"):
            await hasty.add_memory(**wanted)

    held.go_on.set()
    share = await patient.add_memory(**wanted)

    assert await adding == share
    assert (await patient.list_extents()).shares == (share,)
    assert len(held.orders) == 1


async def test_the_session_is_the_stream(site):
    watch = aiter(site.node().watch())
    await anext(watch)
    assert site.service.sessions.alive("c1", "n1")

    await watch.aclose()

    async with asyncio.timeout(30):
        while site.service.sessions.alive("c1", "n1"):
            await clock.sleep(0.01)


async def test_rule_6_a_lapsed_session_lets_the_controller_release(site):
    wanted = share_of()
    driver = site.node()
    await driver.add_memory(**wanted)
    await driver.close()
    await clock.sleep(0.06)

    assert (await site.role().remove_memory(wanted["tag"], host_off=True)).state is RemovedState.DONE


async def test_a_restarted_service_is_found_again_with_all_shares(site):
    driver = site.node()
    share = await driver.add_memory(**share_of())
    watch = aiter(driver.watch())
    await anext(watch)

    await site.stop()
    with pytest.raises(Unreachable):
        await anext(watch)
    with pytest.raises(Unreachable):
        await driver.list_extents()
    await site.start()

    async with asyncio.timeout(30):
        while True:
            try:
                assert (await driver.list_extents()).shares == (share,)
                break
            except Unreachable:
                await clock.sleep(0.05)


async def test_closing_the_client_ends_its_watch(site):
    driver = site.node()
    watch = aiter(driver.watch())
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await clock.sleep(0.01)

    await driver.close()

    with pytest.raises(Unreachable):
        await waiting


async def test_a_watch_that_is_cancelled_is_cancelled(site):
    watch = aiter(site.node().watch())
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await clock.sleep(0.01)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_the_client_ends_its_calls(site, monkeypatch):
    held = Held(site, monkeypatch)
    driver = site.node()
    waiting = asyncio.ensure_future(driver.add_memory(**share_of()))
    await held.begun.wait()

    await driver.close()

    with pytest.raises(Unreachable):
        await waiting
    held.go_on.set()


async def test_a_call_of_which_grpc_never_speaks_again_ends_at_its_deadline(site, monkeypatch):
    driver = site.node()
    await driver.list_extents()
    driver._deadline = 0.1

    async def hang(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(client, "_SLACK", 0.1)
    monkeypatch.setattr(driver._connection.stub, "ListExtents", hang)

    with pytest.raises(Unreachable, match="did not end within"):
        await driver.list_extents()


async def test_a_service_that_is_slow_to_shake_hands_is_reached():
    """As one under load is, with all nodes at its door after a restart."""
    server = grpc.aio.server()
    servicer = fabric_pb2_grpc.DynamicMemoryServicer()

    async def nothing(_request, _context):
        return fabric_pb2.Snapshot()

    servicer.ListExtents = nothing
    fabric_pb2_grpc.add_DynamicMemoryServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    connections = []

    async def slowly(reader, writer):
        connections.append(writer)
        await clock.sleep(0.8)
        behind, ahead = await asyncio.open_connection("127.0.0.1", port)
        connections.append(ahead)

        async def copy(source, target):
            with contextlib.suppress(ConnectionError):
                while data := await source.read(65536):
                    target.write(data)

        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(copy(reader, ahead), copy(behind, writer))

    async with await asyncio.start_server(slowly, "127.0.0.1", 0) as listener:
        caller = FabricClient.connect(f"127.0.0.1:{listener.sockets[0].getsockname()[1]}", None, identity="node/n1")
        assert (await caller.list_extents()).shares == ()
        await caller.close()
        for connection in connections:
            connection.close()
    await server.stop(None)


async def test_certificate_files_that_may_not_be_looked_at_are_no_end(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    files = TlsFiles(*(str(tmp_path / "file" / name) for name in ("ca.crt", "tls.crt", "tls.key")))
    caller = FabricClient.connect("127.0.0.1:1", files)
    with pytest.raises(Unreachable, match="looked at"):
        await caller.list_extents()
    with pytest.raises(Unreachable, match="looked at"):
        await anext(aiter(caller.watch()))


async def test_health_is_served(site):
    site.c1.issue(site.root / "probe", Identity.role("c1", "operator"))
    credentials = grpc.ssl_channel_credentials(
        site.c1.pem, *((site.root / "probe" / name).read_bytes() for name in ("tls.key", "tls.crt"))
    )
    async with grpc.aio.secure_channel(site.listen, credentials) as channel:
        for name in ("", SERVICE_NAME):
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_calls_and_bytes_are_measured(site):
    await site.node().add_memory(**share_of())
    with pytest.raises(BadArgument):
        await site.node().add_memory(**share_of(size=1))

    def value(name, **labels):
        return site.registry.get_sample_value(f"dynamic_memory_fabric_{name}", labels)

    # the caller has its answer before the call has ended
    async with asyncio.timeout(30):
        while value("call_seconds_count", method="AddMemory") != 2:  # noqa: ASYNC110 - a metric sets no event
            await asyncio.sleep(0)
    assert value("calls_total", method="AddMemory", code="OK") == 1
    assert value("calls_total", method="AddMemory", code="INVALID_ARGUMENT") == 1
    assert value("call_seconds_count", method="AddMemory") == 2
    pool = {"pool": "fabric/rack-1", "device": "cxl0"}
    assert value("pool_bytes", **pool) == 8 * GIB
    assert value("pool_held_bytes", **pool) == GIB
    assert value("pool_free_bytes", **pool) == 7 * GIB
    assert value("pool_healthy", **pool) == 1


async def test_an_address_in_use_is_refused(site, tmp_path, authorities):
    other = type(site)(tmp_path / "other", authorities)
    other.listen = site.listen

    with pytest.raises(InvalidInput, match="listen"):
        await other.start()
    await other.close()


async def test_a_caller_that_is_nobody_cannot_be_reached(tmp_path):
    client = FabricClient.connect("127.0.0.1:1", None, identity="node/n1", deadline=1)
    with pytest.raises(Unreachable):
        await client.list_extents()
    with pytest.raises(Unreachable):
        await anext(aiter(client.watch()))
    await client.close()
