# SPDX-License-Identifier: Apache-2.0
"""What a node can hold containers to, and which claims are given there: every cell of the table in docs/nri.md."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import threading

import msgspec
import pytest
from tests.support.fake_fabric import FakeRig
from tests.support.machine import GIB, MIB, Node, put
from tests.support.nri_runtime import Runtime
from tests.unit.driver.conftest import claim_body
from tests.unit.driver.local_rig import LocalRig, local_claim, parameters, result, spec

from dynamic_memory.driver import nri_link
from dynamic_memory.driver.calls import NotReady
from dynamic_memory.driver.config import LocalConfig, NriConfig
from dynamic_memory.driver.enforcement import Need, gaps_of, needs_of
from dynamic_memory.driver.grants import Grant, Mode
from dynamic_memory.driver.nri_link import Link
from dynamic_memory.host import containerd
from dynamic_memory.host.errors import HostError
from dynamic_memory.host.preflight import Check, Finding, Verdict
from dynamic_memory.process import clock
from dynamic_memory.process.backoff import Backoff
from dynamic_memory.process.config import Seconds

CONNECTED = Link(wanted=True, runtime="containerd")
DEVICES, LIMITS, HUGEPAGES = Need.DEVICES, Need.LIMITS, Need.HUGEPAGES


def grant(**how):
    return Grant(**{"request": "mem", "pool": "n1/mem", "device": "numa0-4ki", "size": MIB, "numa": 0, **how})


@pytest.mark.parametrize(
    ("how", "needs"),
    [
        ({"far": True}, set()),
        ({"far": True, "mode": Mode.PROTECT}, set()),
        ({"far": True, "path": "/mnt"}, {DEVICES}),
        ({"mode": Mode.ADVISE}, {DEVICES}),
        ({"mode": Mode.ADVISE, "path": "/mnt"}, {DEVICES}),
        ({"path": "/mnt"}, {DEVICES}),
        ({"mode": Mode.PROTECT, "path": "/mnt"}, {DEVICES, LIMITS}),
        ({}, {DEVICES, LIMITS}),
        ({"mode": Mode.PROTECT}, {DEVICES, LIMITS}),
        ({"page": 2 * MIB, "mode": Mode.ADVISE}, {DEVICES, LIMITS}),
        ({"page": 2 * MIB}, {DEVICES, LIMITS, HUGEPAGES}),
        ({"page": 2 * MIB, "mode": Mode.PROTECT}, {DEVICES, LIMITS, HUGEPAGES}),
    ],
)
def test_what_a_claim_needs_of_the_node(how, needs):
    assert needs_of([grant(**how)]).keys() == needs
    assert needs_of([grant(far=True), grant(**how)]).keys() == needs


def finding(check, verdict=Verdict.REFUSED, missing=()):
    return Finding(check=check, verdict=verdict, text=f"about {check}", missing=missing)


@pytest.mark.parametrize(
    ("found", "link", "gaps"),
    [
        ([], CONNECTED, set()),
        ([], Link(wanted=True, lost="it restarts"), set()),
        ([], Link(wanted=True, absent="nobody listens"), {LIMITS}),
        ([], Link(wanted=False), {LIMITS}),
        ([finding(Check.CGROUPS)], CONNECTED, {LIMITS}),
        ([finding(Check.CGROUPS, Verdict.DEGRADED)], CONNECTED, set()),
        ([finding(Check.CONTROLLERS, missing=("cpuset", "hugetlb"))], CONNECTED, {LIMITS}),
        ([finding(Check.CONTROLLERS, missing=("hugetlb",))], CONNECTED, {HUGEPAGES}),
        # version 1 is good enough, but not without the controller
        ([finding(Check.CONTROLLERS, Verdict.DEGRADED, missing=("cpuset",))], CONNECTED, {LIMITS}),
        ([finding(Check.CONTROLLERS, Verdict.DEGRADED, missing=("hugetlb",))], CONNECTED, {HUGEPAGES}),
        ([finding(Check.TOPOLOGY)], CONNECTED, {LIMITS}),
        # a runtime that is connected has NRI, whatever its file says
        ([finding(Check.RUNTIME_NRI)], CONNECTED, set()),
        ([finding(Check.RUNTIME_CDI)], CONNECTED, {DEVICES}),
        ([finding(Check.RUNTIME_HUGETLB)], CONNECTED, {HUGEPAGES}),
        # of containerd's file nothing is known: its default is bad
        ([finding(Check.RUNTIME_HUGETLB, Verdict.DEGRADED)], CONNECTED, {HUGEPAGES}),
        ([finding(Check.RUNTIME_HUGETLB, Verdict.DEGRADED)], Link(wanted=True, absent="nobody"), {LIMITS}),
        # a runtime without a name may be containerd
        ([finding(Check.RUNTIME_HUGETLB, Verdict.DEGRADED)], Link(wanted=True), {HUGEPAGES}),
        ([finding(Check.RUNTIME_HUGETLB, Verdict.DEGRADED)], Link(wanted=True, lost="it restarts"), set()),
        # another runtime has nothing to do with containerd's file
        (
            [finding(Check.RUNTIME_HUGETLB), finding(Check.RUNTIME_CDI), finding(Check.RUNTIME_NRI)],
            Link(wanted=True, runtime="cri-o"),
            set(),
        ),
    ],
)
def test_what_a_node_lacks(found, link, gaps):
    assert gaps_of(found, link).keys() == gaps


def test_files_alone_lack_no_runtime():
    assert gaps_of([], Link(wanted=False), real=False) == {}


# --- a whole driver, with the sockets of a runtime


def claims(rig):
    """One claim of each kind, by what it is."""
    asked = {
        "limit": ({}, {}),
        "protect": ({}, {"mode": "protect"}),
        "advise": ({}, {"mode": "advise"}),
        "file system": ({}, {"fileSystem": {"path": "/mnt/m"}}),
        "huge pages": ({"device": "numa0-2mi"}, {}),
        "huge pages, advise": ({"device": "numa0-2mi"}, {"mode": "advise"}),
    }
    return {
        what: rig.add(
            local_claim(
                result(size="2Mi", **device),
                name=f"c{number}",
                pods=(f"p{number}",),
                config=[parameters(**mode)] if mode else None,
            )
        )
        for number, (what, (device, mode)) in enumerate(asked.items())
    }


ALL = {"limit", "protect", "advise", "file system", "huge pages", "huge pages, advise"}
WITHOUT_LIMITS = {"advise", "file system"}


async def given(rig, refs):
    """Return what is prepared of these claims, and the refusals of the others."""
    why = {}
    for what, ref in refs.items():
        try:
            await rig.prepare(ref)
        except NotReady as error:
            why[what] = str(error)
        else:
            await rig.unprepare(ref)
    return set(refs) - set(why), why


class Machine(LocalRig):
    """A node with cgroups and containerd's file; `text` is None where there is no such file."""

    def __init__(self, folder, text, *, preflight="enforce", controllers="cpuset memory hugetlb") -> None:
        super().__init__(folder, [Node(0, 4 * GIB, pools={2 * MIB: 256})])
        put(self.root / "proc/self/mountinfo", "30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw")
        put(self.root / "sys/fs/cgroup/cgroup.controllers", controllers)
        self.toml = folder / "config.toml"
        if text is not None:
            put(self.toml, text)
        self.local = LocalConfig(root=self.root, preflight=preflight, containerd_config=str(self.toml))
        self.runtime = Runtime(folder / "nri.sock", request_timeout=30)
        self.nri = NriConfig(socket=self.runtime.path)

    async def start(self, **how):
        driver = self.make(nri=how.get("nri", self.nri))
        if driver._nri is not None:
            driver._nri.stub._backoff = Backoff(initial=0.01, maximum=0.05)
        self.driver = driver
        self._task = asyncio.create_task(driver.run())
        await self.until(lambda: driver.node.active and self.devices())
        return driver

    async def prepare(self, ref, seconds=30):  # of real time
        return await super().prepare(ref, seconds)

    async def unprepare(self, ref, seconds=30):
        await super().unprepare(ref, seconds)

    def report(self):
        return self.driver._ready.report()

    def enforced(self, device):
        return self.devices()[device]["attributes"]["enforced"]["bool"]


@contextlib.asynccontextmanager
async def machine(folder, text, **how):
    nri = {"nri": how.pop("nri")} if "nri" in how else {}
    listens = how.pop("listens", False)
    name = how.pop("name", "containerd")
    rig = Machine(folder, text, **how)
    rig.runtime.name = name
    try:
        if listens:
            await rig.runtime.start()
        await rig.start(**nri)
        if listens:
            await rig.until(lambda: "[+]nri\n" in rig.report())
        elif rig.driver._nri is not None:
            await rig.until(lambda: "[+]nri (degraded)" in rig.report())
        yield rig
    finally:
        await rig.stop()
        if rig.runtime._server is not None and rig.runtime._server.is_serving():
            await rig.runtime.stop()


GOOD = containerd.setup("")
DEFAULT_2 = "version = 3\n[plugins.'io.containerd.cri.v1.runtime']\n  disable_hugetlb_controller = true\n"
DEFAULT_17 = "version = 2\n"


async def test_a_node_without_gaps_gives_all(tmp_path):
    async with machine(tmp_path, GOOD, listens=True) as rig:
        assert await given(rig, claims(rig)) == (ALL, {})
        await rig.until(lambda: "[+]enforcement\n" in rig.report())
        await rig.until(lambda: rig.enforced("numa0-4ki") and rig.enforced("numa0-2mi"))


async def test_containerds_default_costs_huge_pages_alone_and_says_which_line(tmp_path):
    async with machine(tmp_path, DEFAULT_2, listens=True) as rig:
        got, why = await given(rig, claims(rig))
        assert got == ALL - {"huge pages"}
        says = why["huge pages"]
        assert f"{rig.toml}, line 3: disable_hugetlb_controller = true" in says
        assert f"`dynamic-memory setup-runtime {rig.toml}`" in says
        assert "advise" in says
        await rig.until(lambda: "[+]enforcement (degraded): no hugepages: containerd has" in rig.report())
        # before anything is known, neither is
        await rig.until(lambda: rig.enforced("numa0-4ki"))
        assert not rig.enforced("numa0-2mi")


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("version = 3\n", "does not set disable_hugetlb")]
)
async def test_what_containerds_file_does_not_say_is_its_default(tmp_path, text, says):
    async with machine(tmp_path, text, listens=True) as rig:
        got, why = await given(rig, claims(rig))
        assert got == ALL - {"huge pages"}
        assert says in why["huge pages"]


@pytest.mark.parametrize("text", [None, DEFAULT_17])
async def test_cri_o_is_not_judged_by_a_file_of_containerd(tmp_path, text):
    async with machine(tmp_path, text, listens=True, name="cri-o") as rig:
        assert (await given(rig, claims(rig)))[0] == ALL


async def test_O7_a_node_without_nri_gives_what_needs_none_and_is_ready(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    async with machine(tmp_path, GOOD) as rig:
        refs = claims(rig)
        got, why = await given(rig, refs)
        assert got == WITHOUT_LIMITS
        assert f"nobody listens at {rig.runtime.path}" in why["limit"]
        assert "setup-runtime" in why["limit"]
        assert "advise" in why["limit"]
        assert "advise" not in why["huge pages, advise"], "it would not help"
        await rig.until(lambda: "[+]enforcement (degraded)" in rig.report())
        assert all(line.startswith("[+]") for line in rig.report().splitlines() if "nri" in line or "enforce" in line)
        await rig.until(lambda: not rig.enforced("numa0-4ki") and not rig.enforced("numa0-2mi"))
        assert "enforcement is degraded" in caplog.text
        # the administrator turns it on
        await rig.runtime.start()
        await rig.until(lambda: "[+]enforcement\n" in rig.report())
        assert (await given(rig, refs))[0] == ALL
        await rig.until(lambda: rig.enforced("numa0-4ki"))


async def test_a_runtime_of_1_7_is_told_its_lines(tmp_path):
    async with machine(tmp_path, DEFAULT_17 + '[plugins."io.containerd.nri.v1.nri"]\n  disable = true\n') as rig:
        got, why = await given(rig, claims(rig))
        assert got == set(), "without CDI no container would learn of its claim"
        assert "CDI is off in containerd" in why["advise"]
        assert "enable_cdi" in why["advise"]
        await rig.until(lambda: f"{rig.toml}, line 3: disable = true" in rig.report())


async def test_what_was_set_up_counts_when_the_runtime_has_read_it(tmp_path):
    async with machine(tmp_path, DEFAULT_2, listens=True) as rig:
        refs = claims(rig)
        put(rig.toml, containerd.setup(DEFAULT_2))
        assert "huge pages" in (await given(rig, refs))[1], "containerd has not been restarted"
        await rig.runtime.stop()
        await rig.until(lambda: "[-]nri" in rig.report())
        await rig.runtime.start()
        await rig.until(lambda: "[+]enforcement\n" in rig.report())
        assert (await given(rig, refs))[0] == ALL


async def test_O7_a_connection_that_is_lost_holds_everything_back_until_it_is_given_up(tmp_path, monkeypatch):
    async with machine(tmp_path, GOOD, listens=True) as rig:
        refs = claims(rig)
        await rig.until(lambda: rig.enforced("numa0-4ki"))
        await rig.runtime.stop()
        await rig.until(lambda: "[-]nri" in rig.report())
        assert (await given(rig, refs))[0] == set()
        assert rig.enforced("numa0-4ki"), "a restart is no news"
        monkeypatch.setattr(nri_link, "GONE", 0.0)
        await rig.until(lambda: "[+]nri (degraded)" in rig.report())
        assert (await given(rig, refs))[0] == WITHOUT_LIMITS
        assert rig.driver._pod_lives("uid-p1"), "containers may run on while their runtime is away"


async def test_O7_a_runtime_that_refuses_the_plugin_does_not_stop_the_node(tmp_path, monkeypatch):
    monkeypatch.setattr(nri_link, "GONE", 0.0)
    rig = Machine(tmp_path, GOOD)

    async def hang_up(_reader, writer):
        writer.close()

    server = await asyncio.start_unix_server(hang_up, rig.runtime.path)
    try:
        await rig.start()
        await rig.until(lambda: "no limits" in rig.report())
        assert "[-]nri" in rig.report(), "somebody has to look"
        got, why = await given(rig, claims(rig))
        assert got == WITHOUT_LIMITS
        assert "NRI does not work with this runtime" in why["limit"]
        assert rig.driver._pod_lives("uid-p1"), "this runtime cannot be asked, and may run containers"
    finally:
        await rig.stop()
        server.close()
        await server.wait_closed()


async def test_a_file_of_containerd_that_is_not_text_does_not_stop_the_driver(tmp_path):
    rig = Machine(tmp_path, None)
    rig.toml.write_bytes(b"version = 3\n# \xff\n")
    await rig.runtime.start()
    try:
        await rig.start()
        await rig.until(lambda: "[+]nri\n" in rig.report())
        got, why = await given(rig, claims(rig))
        assert got == ALL - {"huge pages"}
        assert f"{rig.toml} cannot be understood" in why["huge pages"]
    finally:
        await rig.stop()
        await rig.runtime.stop()


async def test_nothing_is_said_to_be_enforced_before_that_is_known(tmp_path):
    """A claim that asks for it would be allocated here, and never prepared."""
    rig = Machine(tmp_path, GOOD)
    answers = asyncio.Event()

    async def answer_late(_reader, writer):
        await answers.wait()
        writer.close()

    server = await asyncio.start_unix_server(answer_late, rig.runtime.path)
    try:
        await rig.start()
        assert not rig.enforced("numa0-4ki")
        assert not rig.enforced("numa0-2mi")
    finally:
        answers.set()
        await rig.stop()
        server.close()
        await server.wait_closed()


async def test_a_connection_that_is_lost_while_fabric_memory_is_waited_for_holds_the_claim_back(tmp_path):
    fabric = await FakeRig.open()
    rig = Machine(tmp_path, GOOD)
    rig.driver = rig.make(nri=None, fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    why = [""]
    rig.driver.node.unenforced = lambda _local: why[0]
    try:
        await rig.until(lambda: rig.driver.node.active)
        body = claim_body("mixed", pods=("p2",))
        body["status"]["allocation"]["devices"]["results"].append(result(request="near", size="2Mi"))
        ref = rig.add(body)
        arrival = rig.driver._plugin._preparer._arrival
        wait = arrival.wait

        async def lost_meanwhile(*arguments):
            region = await wait(*arguments)
            why[0] = "the runtime is not connected"
            return region

        async def not_at_once(*_arguments):
            return None

        arrival.wait = lost_meanwhile
        ready, arrival.ready = arrival.ready, not_at_once
        task = asyncio.create_task(rig.prepare(ref, 30))
        await rig.until(lambda: rig.driver.node.progress)
        arrival.ready = ready
        with pytest.raises(NotReady, match="the runtime is not connected"):
            await task
        assert rig.record(ref).prepared is None
        assert rig.specs() == []
    finally:
        await rig.stop()


async def test_a_runtime_that_was_killed_is_waited_for_by_a_driver_that_has_not_seen_it(tmp_path, monkeypatch):
    """Its containers run on; a runtime without NRI leaves no socket."""
    rig = Machine(tmp_path, GOOD)
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(rig.runtime.path))
    try:
        await rig.start()
        await rig.until(lambda: "[-]nri: nobody listens" in rig.report())
        assert (await given(rig, claims(rig)))[0] == set()
        assert rig.driver._pod_lives("uid-p1")
        monkeypatch.setattr(nri_link, "GONE", 0.0)
        await rig.until(lambda: "[+]nri (degraded)" in rig.report())
        assert not rig.driver._pod_lives("uid-p1")
    finally:
        await rig.stop()


async def test_without_nri_the_api_alone_says_whether_a_pod_lives(tmp_path):
    async with machine(tmp_path, GOOD) as rig:
        assert not rig.driver._pod_lives("uid-p1")


@pytest.mark.parametrize(
    ("preflight", "gives", "attribute"),
    [("enforce", WITHOUT_LIMITS, False), ("report", ALL, False), ("off", ALL, True)],
)
@pytest.mark.parametrize("nri", [{"nri": None}, {}])
async def test_preflight_says_whether_gaps_refuse(tmp_path, preflight, gives, attribute, nri):
    async with machine(tmp_path, GOOD, preflight=preflight, **nri) as rig:
        got, why = await given(rig, claims(rig))
        assert got == gives
        if why and nri:
            assert "add the line `nri: {}`" in why["limit"]
        await rig.until(lambda: rig.enforced("numa0-4ki") is attribute)


async def test_P1_without_a_controller_claims_are_refused_and_the_driver_runs(tmp_path, caplog):
    async with machine(tmp_path, GOOD, listens=True, controllers="memory hugetlb") as rig:
        got, why = await given(rig, claims(rig))
        assert got == WITHOUT_LIMITS
        assert "the root has no cpuset" in why["limit"]
        assert "preflight: REFUSED controllers" in caplog.text


async def test_fabric_claims_work_without_nri_and_mixed_ones_go_by_their_local_part(tmp_path):
    fabric = await FakeRig.open()
    rig = Machine(tmp_path, GOOD)
    rig.driver = rig.make(nri=rig.nri, fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    try:
        await rig.until(lambda: "[+]nri (degraded)" in rig.report())
        far = rig.add(claim_body("far", pods=("p1",)))
        assert await rig.prepare(far, 30)
        mixed = claim_body("mixed", pods=("p2",))
        mixed["status"]["allocation"]["devices"]["results"].append(result(request="near", size="2Mi"))
        mixed["spec"]["devices"]["requests"].append({"name": "near", "exactly": {"deviceClassName": "dra.memory"}})
        ref = rig.add(mixed)
        with pytest.raises(NotReady, match="request near: this node has no limits for it"):
            await rig.prepare(ref, 30)
        mixed["status"]["allocation"]["devices"]["config"] = [parameters(mode="advise")]
        assert await rig.prepare(rig.add(mixed), 30)
    finally:
        await rig.stop()


async def test_a_node_whose_memory_cannot_be_read_serves_its_fabric_until_it_can(tmp_path, caplog):
    """A kernel without NUMA has no nodes."""
    fabric = await FakeRig.open()
    rig = Machine(tmp_path, GOOD)
    nodes = rig.root / "sys/devices/system/node"
    nodes.rename(tmp_path / "node")
    rig.local = msgspec.structs.replace(rig.local, rescan=Seconds(0.2))
    rig.driver = rig.make(nri=rig.nri, fabric=fabric.as_node("n1"))
    began = clock.monotonic()
    rig._task = asyncio.create_task(rig.driver.run())
    try:
        await rig.until(lambda: "[+]slices (degraded): the node's own memory is not published" in rig.report())
        await rig.until(lambda: "[+]nri (degraded)" in rig.report())
        assert await rig.prepare(rig.add(claim_body("far", pods=("p1",))), 30)
        ref = rig.add(local_claim(result(size="2Mi"), config=[parameters(mode="advise")], pods=("p2",)))
        with pytest.raises(HostError, match="at least one NUMA node"):
            await rig.prepare(ref)
        assert rig.record(ref) is None
        (tmp_path / "node").rename(nodes)
        await rig.until(lambda: "[+]slices\n" in rig.report())
        assert await rig.prepare(ref)
        said = [line for line in caplog.messages if "memory is not published" in line]
        assert len(said) < (clock.monotonic() - began) / 0.2 + 5, "once a look"
    finally:
        await rig.stop()


async def test_fabric_memory_as_a_file_system_is_not_given_where_its_mount_would_be_missing(tmp_path):
    """containerd 1.7 passes over CDI devices unless it is told otherwise: files would land on the disk."""
    fabric = await FakeRig.open()
    rig = Machine(tmp_path, DEFAULT_17)
    rig.driver = rig.make(nri=rig.nri, fabric=fabric.as_node("n1"))
    rig._task = asyncio.create_task(rig.driver.run())
    try:
        await rig.until(lambda: "[+]nri (degraded)" in rig.report())
        assert await rig.prepare(rig.add(claim_body("far", pods=("p1",))), 30)
        files = claim_body("files", pods=("p2",))
        files["status"]["allocation"]["devices"]["config"] = [parameters(fileSystem={"path": "/mnt/m"})]
        with pytest.raises(NotReady, match="request far: this node has no devices for it: CDI is off in containerd"):
            await rig.prepare(rig.add(files), 30)
    finally:
        await rig.stop()


@contextlib.asynccontextmanager
async def second_driver(rig):
    """A driver beside the one that leads; the kubelet calls it."""
    first, second = rig.driver, rig.make(nri=rig.nri)
    task = asyncio.create_task(second.run())
    try:
        await rig.until(lambda: "[+]nri" in second._ready.report())
        assert not second.node.active
        rig.driver = second
        yield second
    finally:
        rig.driver = first
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(("runtime", "gives"), [("containerd", ALL - {"huge pages"}), ("cri-o", ALL)])
async def test_a_second_driver_goes_by_the_runtime_of_the_first(tmp_path, runtime, gives):
    """Of CRI-O a missing file of containerd tells nothing."""
    async with machine(tmp_path, None, listens=True, name=runtime) as rig, second_driver(rig):
        assert (await given(rig, claims(rig)))[0] == gives


async def test_a_second_driver_gives_nothing_while_the_first_is_not_connected(tmp_path):
    async with machine(tmp_path, GOOD, listens=True) as rig:
        refs, first = claims(rig), rig.driver
        async with second_driver(rig):
            assert (await given(rig, refs))[0] == ALL
            await rig.runtime.stop()
            await rig.until(lambda: "[-]nri" in first._ready.report())
            got, why = await given(rig, refs)
            assert got == set()
            assert "could not be held to it" in why["limit"]
            await rig.runtime.start()
            await rig.until(lambda: "[+]nri\n" in first._ready.report())
            assert (await given(rig, refs))[0] == ALL


async def test_a_second_driver_gives_nothing_while_the_first_has_told_nothing(tmp_path):
    """An earlier version of the driver leads, or one without `nri`."""
    async with machine(tmp_path, GOOD, listens=True) as rig, second_driver(rig):
        refs = claims(rig)
        lock = tmp_path / "state/node.lock"
        lock.write_text("an-earlier-driver\n")
        got, why = await given(rig, refs)
        assert got == set()
        assert "the driver that leads on this node has not told that it is connected" in why["limit"]


async def test_two_drivers_that_are_configured_differently_agree_on_record_and_file(tmp_path):
    """Both are asked for one claim at the same time: the file is that of the one that recorded last."""
    async with machine(tmp_path, GOOD, listens=True) as rig:
        ref, one = rig.add(local_claim()), rig.driver
        reached, go_on = asyncio.Event(), threading.Event()
        loop, write = asyncio.get_running_loop(), one.node.specs.write

        def slow(uid, text):
            loop.call_soon_threadsafe(reached.set)
            go_on.wait(1)  # the other one has to wait for this
            write(uid, text)

        one.node.specs.write = slow
        async with second_driver(rig) as two:
            two.node.metadata = None
            until = clock.monotonic() + 50
            first = asyncio.ensure_future(one._plugin._preparer.prepare(ref, until))
            await reached.wait()
            other = asyncio.ensure_future(two._plugin._preparer.prepare(ref, until))
            other.add_done_callback(lambda _: go_on.set())
            await asyncio.wait({first, other})
            record = await two.node.records.refresh(ref.uid)
            assert spec(rig, ref) == json.loads(record.prepared.spec)


async def test_a_driver_that_takes_over_gives_nothing_before_it_is_connected(tmp_path):
    async with machine(tmp_path, GOOD, listens=True) as rig:
        second = rig.make(nri=rig.nri)
        task = asyncio.create_task(second.run())
        try:
            await rig.until(lambda: "[+]nri" in second._ready.report())
            load, seen = second.node.records.load, []

            async def look() -> None:
                seen.append(second.node.unenforced(()))
                await load()

            second.node.records.load = look
            await rig.stop()
            await rig.until(lambda: second.node.active)
            assert seen[0], "the process that was connected is gone"
            second._nri.stub._backoff = Backoff(initial=0.01, maximum=0.05)
            await rig.until(lambda: not second.node.unenforced(()))
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_second_driver_does_not_give_what_the_first_would_refuse(tmp_path):
    async with machine(tmp_path, GOOD) as rig:
        refs = claims(rig)
        first, second = rig.driver, rig.make(nri=rig.nri)
        task = asyncio.create_task(second.run())
        try:
            await rig.until(lambda: "[+]nri (degraded)" in second._ready.report())
            assert not second.node.active
            rig.driver = second
            got, why = await given(rig, refs)
            assert got == WITHOUT_LIMITS
            assert "turn NRI on" in why["limit"] or "NRI is off" in why["limit"]
        finally:
            rig.driver = first
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
