# SPDX-License-Identifier: Apache-2.0
"""Client libraries that follow config maps and pods, each by its own means: what each of them has seen."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from tests.embedded.support.churning import RESOURCES, Change

__all__ = ["FOLLOWERS", "Followers", "Seen", "kopf_follows", "kr8s_follows", "kubernetes_follows", "lightkube_follows"]

SECONDS = 30.0


class Seen:
    """The changes that a client has seen, by resource, in order; `errors` are what its library complained of.

    Args:
        ordered: whether the client tells changes of different objects in the order in which they came.

    """

    def __init__(self, *, ordered: bool = True) -> None:
        self.ordered = ordered
        self.changes: dict[str, list[Change]] = {resource: [] for resource in RESOURCES}
        self.errors: list[Any] = []

    def add(self, resource: str, kind: str, metadata: dict[str, Any]) -> None:
        """Note an event of an object of the writer; others are of the cluster itself."""
        if metadata["name"].startswith("churn-"):
            self.changes[resource].append(Change.seen(kind, metadata))

    def has_seen(self, written: list[Change], resource: str) -> bool:
        """Say whether it was told of each change once, and in order as far as it keeps one."""
        seen = self.changes[resource]
        return seen == written if self.ordered else Counter(seen) == Counter(written)


@contextlib.asynccontextmanager
async def _tasks(*coroutines: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        yield
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def lightkube_follows(kubeconfig: Path, timeout: int) -> AsyncIterator[Seen]:
    """Watches that the server ends after `timeout` seconds; the library goes on where it was."""
    from lightkube import AsyncClient, KubeConfig
    from lightkube.resources.core_v1 import ConfigMap, Pod

    seen = Seen()
    client = AsyncClient(KubeConfig.from_file(kubeconfig))

    async def follow(resource: str, kind: Any) -> None:
        async for event, obj in client.watch(kind, namespace="default", server_timeout=timeout):
            meta = obj.metadata
            seen.add(resource, event, {"name": meta.name, "resourceVersion": meta.resourceVersion})

    try:
        async with _tasks(follow("configmaps", ConfigMap), follow("pods", Pod)):
            yield seen
    finally:
        await client.close()


@contextlib.asynccontextmanager
async def kr8s_follows(kubeconfig: Path, timeout: int) -> AsyncIterator[Seen]:
    """Watches as long as the server lets them be (no `timeout`); then others that begin where they ended."""
    import kr8s.asyncio

    seen = Seen()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Kubernetes version")
        api = await kr8s.asyncio.api(kubeconfig=str(kubeconfig))

    async def follow(resource: str) -> None:
        since = None
        while True:
            async for event, obj in api.async_watch(resource, namespace="default", since=since):
                since = obj.metadata.resourceVersion
                seen.add(resource, event, obj.raw["metadata"])

    try:
        async with _tasks(*map(follow, RESOURCES)):
            yield seen
    finally:
        await api._session.aclose()


@contextlib.asynccontextmanager
async def kubernetes_follows(kubeconfig: Path, timeout: int) -> AsyncIterator[Seen]:
    """The informers of the official client, in a thread each; they have no `timeout` either."""
    import kubernetes
    from kubernetes.informer import SharedInformer

    seen = Seen()
    api = kubernetes.config.new_client_from_config(str(kubeconfig))
    api.user_agent = "official/1"
    core = kubernetes.client.CoreV1Api(api)
    informers = []
    for resource, function in zip(RESOURCES, (core.list_namespaced_config_map, core.list_namespaced_pod), strict=True):
        informer = SharedInformer(function, namespace="default")
        informers.append(informer)
        informer.add_event_handler("ERROR", seen.errors.append)
        for kind in ("ADDED", "MODIFIED", "DELETED"):

            def noted(obj: Any, kind: str = kind, resource: str = resource) -> None:
                meta = obj.metadata
                seen.add(resource, kind, {"name": meta.name, "resourceVersion": meta.resource_version})

            informer.add_event_handler(kind, noted)
    for informer in informers:
        informer.start()
    try:
        yield seen
        assert seen.errors == []
    finally:
        logging.getLogger("kubernetes.informer.informer").disabled = True  # a watch that it ends itself surprises it
        for informer in informers:
            await asyncio.to_thread(informer.stop)
        logging.getLogger("kubernetes.informer.informer").disabled = False
        api.close()


@contextlib.asynccontextmanager
async def kopf_follows(kubeconfig: Path, timeout: int) -> AsyncIterator[Seen]:
    """An operator with a handler of each resource, in a thread with a loop of its own."""
    import kopf
    import yaml

    server = yaml.safe_load(await asyncio.to_thread(kubeconfig.read_text))["clusters"][0]["cluster"]["server"]
    seen = Seen(ordered=False)  # each object has a task of its own
    registry = kopf.OperatorRegistry()
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.watching.server_timeout = timeout

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        return kopf.ConnectionInfo(server=server)

    for resource in RESOURCES:

        @kopf.on.event("", "v1", resource, registry=registry, id=f"follow-{resource}")
        def changed(event: Any, resource: Any, **_: Any) -> None:
            seen.add(resource.plural, event["type"] or "ADDED", event["object"]["metadata"])

    ready, stop = threading.Event(), threading.Event()

    def operate() -> None:
        operator = kopf.operator(
            registry=registry,
            settings=settings,
            namespaces=["default"],
            standalone=True,
            ready_flag=ready,
            stop_flag=stop,
        )
        asyncio.run(operator)
        with warnings.catch_warnings():  # the library leaves its last connection to the garbage collector
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    thread = threading.Thread(target=operate)
    thread.start()
    try:
        assert await asyncio.to_thread(ready.wait, SECONDS)
        yield seen
    finally:
        stop.set()
        await asyncio.to_thread(thread.join, SECONDS)


Followers = dict[str, Callable[[Path, int], contextlib.AbstractAsyncContextManager[Seen]]]
FOLLOWERS: Followers = {
    "python-httpx2": lightkube_follows,
    "kr8s": kr8s_follows,
    "official": kubernetes_follows,
    "kopf": kopf_follows,
}
"""Each client by the first word of its user agent."""
