# SPDX-License-Identifier: Apache-2.0
"""The real sockets, with a caller that does what the kubelet does and checks what the kubelet checks."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tests.support.fake_kubelet import FakeKubelet

from dynamic_memory.driver.calls import Device, NotPrepared
from dynamic_memory.driver.config import Timing
from dynamic_memory.driver.plugin import Plugin
from dynamic_memory.driver.registration import Registration
from dynamic_memory.driver.unprepare import StillHeld
from dynamic_memory.process import clock


class Stub:
    """Prepares everything; claims named `bad` and `bug` fail, `slow` takes until its time is over."""

    def __init__(self) -> None:
        self.until: dict[str, float] = {}
        self.running: set[str] = set()
        self.most = 0

    async def prepare(self, ref, until):
        await self._work(ref, until)
        if ref.name == "bad":
            raise NotPrepared("claim app/bad is not allocated")
        if ref.name == "none":
            return []
        return [
            Device(
                request="far", pool="fabric/rack-1", device="cxl0", share_id="s1", cdi_ids=(f"x/y=claim-{ref.uid}",)
            ),
            Device(request="far-window", pool="n1/windows", device="port0", share_id="s2"),
        ]

    async def unprepare(self, ref, until):
        await self._work(ref, until)
        if ref.name == "bad":
            raise StillHeld("MemoryBusy", "2 memory blocks")

    async def _work(self, ref, until):
        self.until[ref.name] = until
        assert ref.uid not in self.running, "two calls for one claim at the same time"
        self.running.add(ref.uid)
        self.most = max(self.most, len(self.running))
        await clock.sleep(0.05)
        self.running.discard(ref.uid)
        if ref.name == "bug":
            raise ZeroDivisionError("oops")


@pytest.fixture
async def served(tmp_path):
    stub, told = Stub(), []
    plugin = Plugin(stub, stub, Timing())
    await plugin.start(tmp_path / "p" / "dra.sock")
    registration = Registration(tmp_path / "p" / "dra.sock", lambda ok, error: told.append((ok, error)))
    await registration.start(tmp_path / "r" / "dra.memory-reg.sock")
    yield stub, FakeKubelet(tmp_path / "r"), told, tmp_path
    await registration.stop()
    await plugin.stop()
    assert list(tmp_path.rglob("*.sock")) == []


async def test_R18_the_kubelet_registers_the_driver_and_takes_the_newest_version(served):
    _, kubelet, told, tmp_path = served
    info = await kubelet.register()
    assert (info.type, info.name) == ("DRAPlugin", "dra.memory")
    assert info.endpoint == str(tmp_path / "p" / "dra.sock")
    assert list(info.supported_versions) == [
        "v1.DRAPlugin",
        "v1beta1.DRAPlugin",
        "v1.DRAResourceHealth",
        "v1alpha1.DRAResourceHealth",
    ]
    assert kubelet.version == "v1.DRAPlugin"
    assert told == [(True, "")]


async def test_R18_what_the_kubelet_refuses_is_kept(served):
    _, kubelet, told, _ = served
    kubelet.refuse = "plugin name is taken"
    await kubelet.register()
    assert told == [(False, "plugin name is taken")]


async def test_an_old_kubelet_finds_its_version(served):
    _, kubelet, _, _ = served
    kubelet.known = ("v1beta1.DRAPlugin",)
    await kubelet.register()
    answer = await kubelet.prepare(("app", "far", "u1"))
    assert answer["u1"].devices[0] == {
        "request_names": ["far"],
        "pool_name": "fabric/rack-1",
        "device_name": "cxl0",
        "cdi_device_ids": ["x/y=claim-u1"],
    }


async def test_R12_the_answer_names_request_pool_device_share_and_cdi_device(served):
    _, kubelet, _, _ = served
    await kubelet.register()
    answer = await kubelet.prepare(("app", "far", "u1"))
    assert answer["u1"].error == ""
    assert answer["u1"].devices == [
        {
            "request_names": ["far"],
            "pool_name": "fabric/rack-1",
            "device_name": "cxl0",
            "cdi_device_ids": ["x/y=claim-u1"],
            "share_id": "s1",
        },
        {
            "request_names": ["far-window"],
            "pool_name": "n1/windows",
            "device_name": "port0",
            "cdi_device_ids": [],
            "share_id": "s2",
        },
    ]


@pytest.mark.parametrize("version", ["v1.DRAPlugin", "v1beta1.DRAPlugin"])
async def test_R1_each_claim_of_a_call_has_its_own_answer(served, version):
    _, kubelet, _, _ = served
    await kubelet.register()
    claims = [("app", name, f"uid-{name}") for name in ("far", "bad", "none", "bug")]
    answer = await kubelet.prepare(*claims, version=version)
    assert {uid: entry.error for uid, entry in answer.items()} == {
        "uid-far": "",
        "uid-bad": "claim app/bad is not allocated",
        "uid-none": "",
        "uid-bug": "unexpected error of the driver: ZeroDivisionError: oops",
    }
    assert answer["uid-none"].devices == []
    errors = await kubelet.unprepare(*claims, version=version)
    assert errors["uid-far"] == ""
    assert errors["uid-bad"] == "memory is not released yet: MemoryBusy: 2 memory blocks"


async def test_rule_11_a_call_may_wait_until_five_seconds_before_its_deadline(served):
    stub, kubelet, _, _ = served
    await kubelet.register()

    async def waits(call, timeout, expected):
        began = clock.monotonic()
        await call(("app", "far", "u1"), timeout=timeout)
        # when in between the call came in depends on how busy the machine is; gRPC rounds up to tenths of a second
        assert began + expected - 0.1 < stub.until["far"] < clock.monotonic() + expected + 0.2

    await waits(kubelet.prepare, 45, 40)
    await waits(kubelet.unprepare, 20, 15)
    await waits(kubelet.prepare, None, 40)
    await waits(kubelet.prepare, 9, 4.5)


async def test_rule_11_locks_are_per_claim(served):
    stub, kubelet, _, _ = served
    await kubelet.register()
    await asyncio.gather(
        kubelet.prepare(("app", "far", "u1"), ("app", "far", "u2")), kubelet.prepare(("app", "far", "u1"))
    )
    assert stub.most == 2


async def test_an_empty_call_has_an_empty_answer(served):
    _, kubelet, _, _ = served
    await kubelet.register()
    assert await kubelet.prepare() == {}


async def test_an_unknown_version_is_not_served(served):
    _, kubelet, _, _ = served
    await kubelet.register()
    async with grpc.aio.insecure_channel(f"unix:{kubelet.info.endpoint}") as channel:
        call = channel.unary_unary("/k8s.io.kubelet.pkg.apis.dra.v2.DRAPlugin/NodePrepareResources")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call(b"", timeout=30)
    assert refusal.value.code() is grpc.StatusCode.UNIMPLEMENTED
