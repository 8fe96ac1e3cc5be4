# SPDX-License-Identifier: Apache-2.0
"""What `kubectl logs` would show."""

from __future__ import annotations

import asyncio
import json
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.embedded.support.clusters import cluster, eventually, found

from dynamic_memory.embedded.kubelet.objects import PODS


async def test_logs_are_what_containers_have_printed_at_each_of_their_starts(folder):
    async with cluster(folder, roles="none") as running:
        for name, script in (("said", "echo one; echo two; sleep 99"), ("again", "echo again; exit 1")):
            container = {"name": "main", "image": "busybox", "command": ["sh", "-c", script]}
            spec = {"containers": [container], "nodeName": "node-1"}
            await running.kube.create(PODS, {"metadata": {"name": name}, "spec": spec}, namespace="default")
        spec = {
            "containers": [{"name": name, "image": "busybox"} for name in ("a", "b")],
            "schedulingGates": [{"name": "x"}],
        }
        await running.kube.create(PODS, {"metadata": {"name": "two"}, "spec": spec}, namespace="default")
        await eventually(lambda: _restarted(running, "again"), "it was started again")
        assert await ask(running, "said") == "one\ntwo\n"
        assert await ask(running, "said", "tailLines=1&container=main") == "two\n"
        assert await ask(running, "said", "limitBytes=2") == "on"
        assert await ask(running, "again", "previous=true") == await ask(running, "again") == "again\n"
        assert (await ask(running, "said", "previous=true")) == (
            400,
            'previous terminated container "main" in pod "said" not found',
        )
        assert await ask(running, "said", "container=no") == (400, "container no is not valid for pod said")
        assert await ask(running, "two", "container=a") == (400, "pod two does not have a host assigned")
        assert await ask(running, "two") == (
            400,
            "a container name must be specified for pod two, choose one of: [a b]",
        )
        assert (await ask(running, "none"))[0] == 404


async def ask(running, name, query=""):
    def get():
        try:
            with urlopen(f"{running.server.url}/api/v1/namespaces/default/pods/{name}/log?{query}") as answer:
                return answer.read().decode()
        except HTTPError as error:
            return error.code, json.load(error)["message"]

    return await asyncio.to_thread(get)


async def _restarted(running, name):
    statuses = (await found(running, PODS, name)).status.get("containerStatuses") or [{}]
    return statuses[0].get("restartCount") == 1 and "waiting" in statuses[0]["state"]
