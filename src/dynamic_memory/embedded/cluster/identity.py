# SPDX-License-Identifier: Apache-2.0
"""Who a role is that runs as a process of its own: a token of its service account, in a kubeconfig of its own.

A role of a node has a pod there, as its DaemonSet would have made it, and its token is bound to that pod; so the token
tells the node, which policies and rights rest on, and ends with the pod. Whoever deletes the pod ends the process: it
gets a new pod and a new token. The pod is the API's and the kubelet's view; the process is run by the cluster.
Source: KEP-1205, KEP-4193.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from dynamic_memory.embedded.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from dynamic_memory.embedded.apiserver.local import LocalKube
from dynamic_memory.embedded.apiserver.request import INTERNAL
from dynamic_memory.embedded.apiserver.server import ApiServer
from dynamic_memory.embedded.cluster.settings import NAMESPACE
from dynamic_memory.embedded.kubelet.objects import NODES, PODS
from dynamic_memory.kube.errors import AlreadyExists, NotFound
from dynamic_memory.process import clock

__all__ = ["LABELS", "Identity", "forget"]

LABELS = {"app.kubernetes.io/part-of": "dynamic-memory", "app.kubernetes.io/managed-by": "dynamic-memory-up"}
SECONDS = 365 * 24 * 3600
"""How long a token is good, if its pod lives so long."""
LOOK = 0.2
"""Seconds between two looks at a node, a pod or a token."""


class Identity:
    """See the module.

    Args:
        server: gives the tokens out.
        role: name of the service account.
        node: the role's node, empty if it is not one of a node.
        path: the kubeconfig.

    """

    def __init__(self, server: ApiServer, role: str, node: str, path: Path) -> None:
        self._server = server
        self._kube = LocalKube(server.api, INTERNAL, manager="dynamic-memory-up")
        self._role = role
        self._node = node
        self._path = path
        self._token = ""

    async def take(self) -> None:
        """Write the kubeconfig, with a new token; waits for the role's node.

        Raises:
            ApiError: no token is given out.

        """
        bound = await self._pod() if self._node else None
        self._token = await self._issue(bound)
        server = self._server
        write_kubeconfig(self._path, kubeconfig(server.url, name=self._role, ca=server.ca, token=self._token))

    async def lost(self) -> None:
        """Return when the token is no longer good: its pod is gone, its account, or its time is over."""
        while self._server.security.tokens.identify(self._token) is not None:
            await clock.sleep(LOOK)

    async def _pod(self) -> dict[str, str]:
        """Return what the token is bound to: the pod on the node, made if it is not there."""
        name = f"{self._role}-{self._node}"
        while True:
            with contextlib.suppress(NotFound):
                await self._kube.get(NODES, self._node)
                with contextlib.suppress(AlreadyExists):
                    await self._kube.create(PODS, _pod(name, self._role, self._node), namespace=NAMESPACE)
                pod = await self._kube.get(PODS, name, NAMESPACE)
                # one that is on its way out would take the token with it
                if pod.metadata.deletion_timestamp is None:
                    return {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": pod.metadata.uid}
            await clock.sleep(LOOK)

    async def _issue(self, bound: dict[str, str] | None) -> str:
        body: dict[str, Any] = {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "spec": {"expirationSeconds": SECONDS, **({"boundObjectRef": bound} if bound else {})},
        }
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{self._role}/token"
        text = await self._kube.create_raw(path, body)
        token: str = msgspec.json.decode(text)["status"]["token"]
        return token


async def forget(kube: LocalKube, kept: Collection[str] = ()) -> None:
    """Delete the pods of roles that an earlier start of the folder ran as processes, but those with these names."""
    labels = ",".join(f"{key}={value}" for key, value in LABELS.items())
    for pod in (await kube.list(PODS, namespace=NAMESPACE, labels=labels)).items:
        if pod.metadata.name not in kept:
            with contextlib.suppress(NotFound):
                await kube.delete(PODS, pod.metadata.name, NAMESPACE)


def _pod(name: str, role: str, node: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {**LABELS, "app.kubernetes.io/name": role}},
        "spec": {
            "nodeName": node,
            "serviceAccountName": role,
            "terminationGracePeriodSeconds": 1,
            "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": role, "image": "dynamic-memory"}],
        },
    }
