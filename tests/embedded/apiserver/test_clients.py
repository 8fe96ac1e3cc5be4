# SPDX-License-Identifier: Apache-2.0
"""Client libraries that were written for real servers: row A42. Each lists, writes, watches and deletes."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from tests.embedded.support.servers import Running

from dynamic_memory.embedded.apiserver.kubeconfig import write_kubeconfig

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
async def kubeconfig(running_server: Running, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, await running_server.server.kubeconfig())
    return path


async def test_A42_the_official_client(running_server: Running) -> None:
    import kubernetes

    def use() -> None:
        configuration = kubernetes.client.Configuration()
        configuration.host = running_server.server.url
        with kubernetes.client.ApiClient(configuration) as api:
            core = kubernetes.client.CoreV1Api(api)
            made = core.create_namespaced_config_map("default", {"metadata": {"name": "a"}, "data": {"k": "v"}})
            patched = core.patch_namespaced_config_map("a", "default", {"data": {"l": "w"}})
            assert patched.data == {"k": "v", "l": "w"}
            listed = core.list_namespaced_config_map("default", label_selector="!x", limit=1)
            assert listed.items[0].metadata.uid == made.metadata.uid
            seen = []
            watch = kubernetes.watch.Watch()
            version = made.metadata.resource_version
            for event in watch.stream(core.list_namespaced_config_map, "default", resource_version=version):
                seen.append((event["type"], event["object"].metadata.name))
                if len(seen) == 1:
                    core.delete_namespaced_config_map("a", "default")
                else:
                    watch.stop()
            assert seen == [("MODIFIED", "a"), ("DELETED", "a")]
            with pytest.raises(kubernetes.client.ApiException) as caught:
                core.read_namespaced_config_map("a", "default")
            assert (caught.value.status, caught.value.reason) == (404, "Not Found")
            spec = {"containers": [{"name": "c", "image": "i"}]}
            pod = core.create_namespaced_pod("default", {"metadata": {"name": "p"}, "spec": spec})
            assert pod.status.phase == "Pending"
            custom = kubernetes.client.CustomObjectsApi(api)
            where = ("devmgmtproto.k8s.io", "v1alpha1", "devicedrivers")
            custom.create_cluster_custom_object(
                *where, {"apiVersion": f"{where[0]}/{where[1]}", "kind": "DeviceDriver", "metadata": {"name": "d"}}
            )
            assert custom.list_cluster_custom_object(*where)["items"][0]["metadata"]["name"] == "d"

    await asyncio.to_thread(use)


@pytest.mark.filterwarnings("ignore:Kubernetes version")
async def test_A42_kr8s(running_server: Running, kubeconfig: Path) -> None:
    import kr8s.asyncio
    from kr8s.asyncio.objects import ConfigMap

    api = await kr8s.asyncio.api(kubeconfig=str(kubeconfig))
    assert (await api.version())["gitVersion"].startswith("v1.37.0")
    made = await ConfigMap({"metadata": {"name": "a", "namespace": "default"}, "data": {"k": "v"}}, api=api)
    await made.create()
    await made.patch({"data": {"l": "w"}})
    found = await ConfigMap.get("a", namespace="default", api=api)
    assert found.raw["data"] == {"k": "v", "l": "w"}
    seen: list[str] = []

    async def follow() -> None:
        async for event, obj in api.watch("configmaps", namespace="default"):
            if obj.name == "a":
                seen.append(event)
            if event == "DELETED":
                return

    task = asyncio.create_task(follow())
    await wait(lambda: seen)
    await made.delete()
    await asyncio.wait_for(task, 30)
    assert seen == ["ADDED", "DELETED"]
    assert not await made.exists()
    await api._session.aclose()


async def test_A42_lightkube(running_server: Running, kubeconfig: Path) -> None:
    from lightkube import AsyncClient, KubeConfig
    from lightkube.models.meta_v1 import ObjectMeta
    from lightkube.resources.core_v1 import ConfigMap

    client = AsyncClient(KubeConfig.from_file(kubeconfig), field_manager="lightkube")
    made = await client.create(ConfigMap(metadata=ObjectMeta(name="a", namespace="default"), data={"k": "v"}))
    assert made.metadata.managedFields[0].manager == "lightkube"
    applied = ConfigMap(metadata=ObjectMeta(name="b", namespace="default"), data={"k": "v"})
    assert (await client.apply(applied)).data == {"k": "v"}
    names = [item.metadata.name async for item in client.list(ConfigMap, namespace="default")]
    assert names == ["a", "b", "kube-root-ca.crt"]
    await client.delete(ConfigMap, "a", namespace="default")
    await client.close()


async def test_A42_a_kopf_operator_sees_each_change_without_listing_again(
    running_server: Running,
) -> None:
    import kopf

    requests: list[tuple[str, str]] = []
    running_server.server.edge.audit = lambda request, _code, _seconds: requests.append(
        (request.audit.get("verb", ""), request.path)
    )
    registry = kopf.OperatorRegistry()
    seen: list[tuple[str, str]] = []

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=running_server.server.url)

    @kopf.on.event("", "v1", "configmaps", registry=registry)
    def changed(event: Any, name: str, **_: Any) -> None:
        seen.append((event["type"], name))

    ready, stop = threading.Event(), threading.Event()

    def operate() -> None:
        settings = kopf.OperatorSettings()
        settings.posting.enabled = False
        asyncio.run(
            kopf.operator(
                registry=registry,
                settings=settings,
                namespaces=["default"],
                standalone=True,
                ready_flag=ready,
                stop_flag=stop,
            )
        )

        with warnings.catch_warnings():  # the library leaves its last connection to the garbage collector
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    thread = threading.Thread(target=operate)
    thread.start()
    try:
        await wait(ready.is_set)
        await wait(lambda: any(verb == "watch" and path == MAPS for verb, path in requests))
        client = running_server.client
        for number in range(20):
            await client.create(MAPS, {"metadata": {"name": f"m{number}"}})
            await client.patch(f"{MAPS}/m{number}", {"data": {"k": "v"}})
            await client.delete(f"{MAPS}/m{number}")
        await wait(lambda: sum(kind == "DELETED" for kind, _ in seen) == 20)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, 20)
    for number in range(20):
        assert [kind for kind, name in seen if name == f"m{number}"] == ["ADDED", "MODIFIED", "DELETED"]
    assert sum(verb == "list" and path == MAPS for verb, path in requests) == 1, "no storm of lists"


async def wait(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - what is waited for is in a library or another thread
            await asyncio.sleep(0.01)
