# SPDX-License-Identifier: Apache-2.0
"""The health stream on the real socket, as the kubelet reads it."""

from __future__ import annotations

import asyncio

import grpc
import pytest

from dynamic_memory.driver import health
from dynamic_memory.driver.config import Timing
from dynamic_memory.driver.health import Condition
from dynamic_memory.driver.plugin import Plugin

GOOD = Condition(pool="n1/mem", device="numa0-4ki")
BAD = Condition(pool="n1/mem", device="numa0-2mi", trouble="claims hold more than there is")


@pytest.fixture
async def served(tmp_path):
    devices = [GOOD]
    plugin = Plugin(None, None, Timing(), lambda: devices)
    await plugin.start(tmp_path / "dra.sock")
    async with grpc.aio.insecure_channel(f"unix:{tmp_path / 'dra.sock'}") as channel:
        yield devices, channel
    await plugin.stop()


def watch(channel, version):
    messages = health.MESSAGES[version]
    return channel.unary_stream(
        f"/{version}.DRAResourceHealth/NodeWatchResources",
        request_serializer=messages.NodeWatchResourcesRequest.SerializeToString,
        response_deserializer=messages.NodeWatchResourcesResponse.FromString,
    )(messages.NodeWatchResourcesRequest())


def plain(response):
    return [(d.device.pool_name, d.device.device_name, d.health, d.message) for d in response.devices]


@pytest.mark.parametrize("version", ["v1", "v1alpha1"])
async def test_O9_the_whole_list_is_sent_at_once_and_at_each_change(served, version):
    devices, channel = served
    stream = watch(channel, version)
    first = await stream.read()
    assert plain(first) == [("n1/mem", "numa0-4ki", 1, "")]
    assert first.devices[0].last_updated_time > 1_700_000_000
    assert first.devices[0].health_check_timeout_seconds == 30
    devices.append(BAD)
    async with asyncio.timeout(30):
        assert plain(await stream.read()) == [
            ("n1/mem", "numa0-4ki", 1, ""),
            ("n1/mem", "numa0-2mi", 2, "claims hold more than there is"),
        ]
    stream.cancel()


async def test_O9_the_list_is_sent_again_within_the_lease(served, monkeypatch):
    assert health.RESEND < health.LEASE / 2
    monkeypatch.setattr(health, "RESEND", 0.2)
    monkeypatch.setattr(health, "LOOK", 0.05)
    _, channel = served
    stream = watch(channel, "v1")
    async with asyncio.timeout(30):
        assert plain(await stream.read()) == plain(await stream.read())
    stream.cancel()


async def test_O9_a_long_message_is_cut(served):
    devices, channel = served
    devices[:] = [Condition(pool="p", device="d", trouble="x" * 2000)]
    stream = watch(channel, "v1")
    message = plain(await stream.read())[0][3]
    assert (len(message), message[-4:]) == (1024, "x...")
    stream.cancel()
