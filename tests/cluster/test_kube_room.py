# SPDX-License-Identifier: Apache-2.0
"""The room kube/ against real API servers: what unit tests assume of one, and what only a real one can show."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import signal
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.cluster.support.cluster import Cluster
from tests.cluster.support.control_plane import ControlPlane
from tests.cluster.support.processes import eventually
from tests.support.kube_conformance import CHECKS

from dynamic_memory.api.kinds import CONFIG_MAPS, LEASES, NODES, RESOURCE_SLICES
from dynamic_memory.api.names import ATTACH_FAILED, ATTACHED
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.election import LeaderElection
from dynamic_memory.kube.errors import ApiError, Gone, Invalid, Unavailable
from dynamic_memory.kube.events import EventRecorder, reference
from dynamic_memory.kube.informer import Informer
from dynamic_memory.kube.probe import UnsupportedCluster, check_server
from dynamic_memory.kube.slices import DroppedFields, SlicePublisher

DRIVER = "kube-room.example"
WHERE = {"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "no/where", "operator": "Exists"}]}]}}


def device(number: int = 0, value: str = "8Gi", **more):
    policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
    return {
        "name": f"d{number}",
        "allowMultipleAllocations": True,
        "bindsToNode": True,
        "bindingConditions": [ATTACHED],
        "bindingFailureConditions": [ATTACH_FAILED],
        "attributes": {"kind": {"string": "fabric"}, "latencyNs": {"int": 350}},
        "capacity": {"size": {"value": value, "requestPolicy": policy}},
        **more,
    }


@contextlib.asynccontextmanager
async def following(informer: Informer):
    task = asyncio.create_task(informer.run())
    try:
        async with asyncio.timeout(60):
            await informer.wait_synced()
        yield informer
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(check, seconds: float, what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            while not check():  # noqa: ASYNC110 - there is nobody to set an event
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


@pytest.fixture
async def kube(cluster: Cluster) -> AsyncIterator[Client]:
    client = Client.from_environment(str(cluster.plane.kubeconfig))
    yield client
    await client.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
async def test_the_api_server_does_what_the_fake_one_does(kube, namespace, check):
    await check(kube, namespace)


async def test_the_cluster_is_accepted(cluster, kube):
    for node in (None, "node-1"):
        facts = await check_server(kube, node=node)
        assert f"{facts.version[0]}.{facts.version[1]}" == cluster.version
        assert facts.features == {"DRAConsumableCapacity", "DRADeviceBindingConditions", "DRADeviceTaints"}


async def test_an_informer_follows_a_long_list(kube, namespace):
    async def make(number: int) -> None:
        body = {"metadata": {"name": f"m{number}", "labels": {"g": "1"}}, "data": {"n": str(number % 7)}}
        await kube.create(CONFIG_MAPS, body, namespace=namespace)

    for start in range(0, 1100, 20):  # more than two pages
        await asyncio.gather(*(make(number) for number in range(start, start + 20)))
    indexes = {"n": lambda item: item.data.values()}
    informer = Informer(kube, CONFIG_MAPS, namespace=namespace, labels="g=1", indexes=indexes)
    changes = []
    async with following(informer):
        assert len(informer) == 1100
        assert len(informer.by_index("n", "3")) == 157
        informer.subscribe(lambda change: changes.append((change.type, change.object.metadata.name)))
        changed = await kube.patch(CONFIG_MAPS, "m5", {"data": {"n": "new"}}, namespace=namespace)
        async with asyncio.timeout(60):
            await informer.wait_for_version(changed.metadata.resource_version)
        assert [item.metadata.name for item in informer.by_index("n", "new")] == ["m5"]
        await kube.patch(CONFIG_MAPS, "m6", {"metadata": {"labels": {"g": "2"}}}, namespace=namespace)
        await kube.delete(CONFIG_MAPS, "m7", namespace)
        await until(lambda: len(changes) == 3, 60, "all changes")
    assert changes == [("modified", "m5"), ("deleted", "m6"), ("deleted", "m7")]


async def test_bookmarks_come_while_nothing_happens(kube, namespace):
    listed = await kube.list(LEASES, namespace=namespace)
    events = []
    stream = kube.watch(LEASES, resource_version=listed.resource_version, namespace=namespace, timeout=75.0)
    async for event in stream:
        events.append((event.type, event.object))  # noqa: PERF401 - one by one
    assert ("BOOKMARK", None) in events


async def test_a_version_that_the_server_has_not_come_to(kube):
    with pytest.raises(Gone):
        await kube.get_raw("/api/v1/configmaps?resourceVersion=999999999999")


async def test_a_pool_is_published_changed_touched_and_withdrawn(kube):
    async with following(Informer(kube, RESOURCE_SLICES)) as cache:
        publisher = SlicePublisher(
            kube, driver=DRIVER, pool="fabric/a", manager="kube-room", where=WHERE, owner=None, existing=cache.all
        )

        def slices():
            pools = [(item.spec.pool, item.spec.devices) for item in cache.all() if item.spec.driver == DRIVER]
            return sorted((pool.generation, pool.resource_slice_count, len(devices)) for pool, devices in pools)

        async def publish(devices, expected):
            result = await publisher.publish(devices)
            assert (result.written, result.deleted, result.generation) == expected
            await until(lambda: sum(size for _, _, size in slices()) == len(devices), 60, "the cache has it")
            again = await publisher.publish(devices)
            assert (again.written, again.deleted) == (0, 0), "the server stores what was sent, in its own spelling"

        taint = {"key": "t.example/x", "value": "1", "effect": "NoSchedule"}
        await publish([device()], (1, 0, 1))
        await publish([device(value="7168Mi")], (1, 0, 1))
        await publish([device(value="7Gi", taints=[taint])], (1, 0, 1))
        await publish([{**device(), "capacity": {"size": {"value": "0"}}}], (1, 0, 1))
        await publish([device(n) for n in range(100)], (2, 0, 2))
        assert slices() == [(2, 2, 36), (2, 2, 64)]
        await publish([device(n, "9Gi" if n == 99 else "8Gi") for n in range(100)], (1, 0, 2))
        await publisher.touch()
        await publish([device(n) for n in range(3)], (1, 1, 3))
        await publish([], (1, 0, 3))
        policy = {"default": "1Gi", "validRange": {"min": "1Gi", "step": "1Gi"}}
        with pytest.raises(Invalid, match="capacity"):
            await publisher.publish([{**device(), "capacity": {"size": {"value": "1Gi", "requestPolicy": policy}}}])
        await publisher.withdraw()
        await until(lambda: slices() == [], 60, "withdrawn")


async def test_events_are_shown_by_kubectl(cluster, kube, namespace):
    recorder = EventRecorder(kube, "dynamic-memory-driver", "node-1")
    thing = await kube.create(CONFIG_MAPS, {"metadata": {"name": "a"}}, namespace=namespace)
    node = await kube.create(NODES, {"metadata": {"name": f"{namespace}-node"}})
    try:
        for about in (reference(CONFIG_MAPS, thing), reference(NODES, node)):
            await recorder.event(
                about, type="Warning", reason="Busy", message="5 of 8 blocks are in use", action="Detach"
            )
        shown = cluster.kubectl("get", "events", "-n", namespace)
        assert "Warning" in shown
        assert "5 of 8 blocks are in use" in shown
        assert "5 of 8 blocks are in use" in cluster.kubectl("describe", "node", node.metadata.name)
        long = reference(CONFIG_MAPS, thing)
        long = type(long)(kind="ConfigMap", namespace=namespace, name="a" * 199 + "-" + "b" * 50)
        await recorder.event(long, type="Normal", reason="Long", message="x" * 5000)
        items = json.loads(await kube.get_raw(f"/api/v1/namespaces/{namespace}/events"))["items"]
        assert sorted(item["reason"] for item in items) == ["Busy", "Long"]
    finally:
        await kube.delete(NODES, node.metadata.name)


async def test_one_leads_and_the_next_one_follows(kube, namespace):
    who: list[str] = []

    def leader(name: str) -> tuple[LeaderElection, asyncio.Task[None]]:
        async def lead() -> None:
            who.append(f"+{name}")
            try:
                await asyncio.sleep(1000)
            finally:
                who.append(f"-{name}")

        election = LeaderElection(kube, namespace, "lease", name, duration=15, renew_deadline=10, retry=0.5)
        return election, asyncio.create_task(election.run(lead))

    first, one = leader("a")
    await until(lambda: first.leading, 30, "the first leads")
    second, two = leader("b")
    await asyncio.sleep(3)
    assert who == ["+a"]
    one.cancel()
    await asyncio.gather(one, return_exceptions=True)
    await until(lambda: second.leading, 14, "the second follows, before the lease has run out: it was given back")
    await kube.delete(LEASES, "lease", namespace)
    await asyncio.sleep(2)
    assert who == ["+a", "-a", "+b"]
    two.cancel()
    await asyncio.gather(two, return_exceptions=True)
    assert (await kube.get(LEASES, "lease", namespace)).spec.holder_identity == ""


# --- API servers of their own


@contextlib.contextmanager
def api_server(version: str, *flags: str) -> Iterator[ControlPlane]:
    """Start etcd and an API server, nothing else."""
    with tempfile.TemporaryDirectory(prefix="dm-") as folder:
        plane = ControlPlane(version, Path(folder), arguments={"kube-apiserver": list(flags)})
        try:
            plane.start()
            wait(plane)
            yield plane
        finally:
            plane.stop()
            plane._services._loop.close()  # what is not started is not stopped


def wait(plane: ControlPlane) -> None:
    eventually(lambda: plane.api.call("GET", "/readyz") == "ok", 60, "the API server is ready")


@pytest.fixture
def version(cluster: Cluster) -> str:
    return cluster.version


async def test_a_gate_that_is_off_is_found_by_probe_and_publisher(version):
    with api_server(version, "--feature-gates=DRAConsumableCapacity=false,DRADeviceBindingConditions=false") as plane:
        client = Client.from_environment(str(plane.kubeconfig))
        with pytest.raises(UnsupportedCluster, match="DRAConsumableCapacity, DRADeviceBindingConditions: turn"):
            await check_server(client)
        publisher = SlicePublisher(client, driver=DRIVER, pool="p", manager="m", where=WHERE, owner=None, existing=list)
        with pytest.raises(DroppedFields) as caught:
            await publisher.publish([device()])
        assert {"devices[0].allowMultipleAllocations", "devices[0].bindingConditions"} <= set(caught.value.fields)
        await client.close()


def etcd(plane: ControlPlane, method: str, **body: str) -> dict:
    """Call etcd's JSON gateway; keys are given as text."""
    if "key" in body:
        body["key"] = base64.b64encode(body["key"].encode()).decode()
    url = f"http://127.0.0.1:{plane._ports['etcd']}/v3/kv/{method}"
    with urllib.request.urlopen(url, json.dumps(body).encode(), timeout=60) as answer:
        return json.load(answer)


async def test_what_was_deleted_while_the_history_was_lost_is_told(version, caplog):
    caplog.set_level("INFO")
    with api_server(version) as plane:
        client = Client.from_environment(str(plane.kubeconfig))
        for name in ("a", "b"):
            await client.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace="default")
        changes = []
        informer = Informer(client, CONFIG_MAPS, namespace="default")
        informer.subscribe(lambda change: changes.append((change.type, change.object.metadata.name)))
        async with following(informer):
            assert {("added", "a"), ("added", "b")} <= set(changes)
            changes.clear()
            old = informer.resource_version
            plane.children["kube-apiserver"].kill()
            etcd(plane, "deleterange", key="/registry/configmaps/default/a")
            for _ in range(5):
                revision = etcd(plane, "put", key="/unrelated")["header"]["revision"]
            etcd(plane, "compaction", revision=revision)
            plane.start_process("kube-apiserver")
            await asyncio.to_thread(wait, plane)
            await until(lambda: ("deleted", "a") in changes, 60, "the deletion is told")
            assert "the resource version expired; listing again" in caplog.text
            assert ("deleted", "b") not in changes
            with pytest.raises(Gone):
                await anext(client.watch(CONFIG_MAPS, resource_version=old, timeout=10.0))
        await client.close()


async def test_an_api_server_that_dies_and_one_that_hangs(version):
    with api_server(version) as plane:
        client = Client.from_environment(str(plane.kubeconfig))
        for name in ("a", "b"):
            await client.create(CONFIG_MAPS, {"metadata": {"name": name}}, namespace="default")
        stopped = asyncio.Event()

        async def lead() -> None:
            try:
                await asyncio.sleep(1000)
            finally:
                stopped.set()

        election = LeaderElection(client, "default", "lease", "a", duration=12, renew_deadline=6, retry=0.5)
        leading = asyncio.create_task(election.run(lead))
        async with following(Informer(client, CONFIG_MAPS, namespace="default")) as informer:
            await until(lambda: election.leading, 30, "leading")
            plane.children["kube-apiserver"].kill()
            await until(lambda: informer.failure is not None, 30, "the failure is known")
            with pytest.raises(Unavailable):
                await client.get(CONFIG_MAPS, "a", "default")
            async with asyncio.timeout(12):  # before the lease has run out
                await stopped.wait()
            stopped.clear()
            plane.start_process("kube-apiserver")
            await asyncio.to_thread(wait, plane)
            await client.delete(CONFIG_MAPS, "a", "default")
            await until(lambda: informer.get("a", "default") is None and informer.failure is None, 60, "it goes on")
            assert informer.get("b", "default") is not None
            await until(lambda: election.leading, 60, "leading again")
            plane.children["kube-apiserver"].signal(signal.SIGSTOP)
            async with asyncio.timeout(12):  # before the lease has run out
                await stopped.wait()
            plane.children["kube-apiserver"].signal(signal.SIGCONT)
            await until(lambda: election.leading, 60, "leading once more")
        leading.cancel()
        await asyncio.gather(leading, return_exceptions=True)
        with contextlib.suppress(ApiError):
            await client.close()
