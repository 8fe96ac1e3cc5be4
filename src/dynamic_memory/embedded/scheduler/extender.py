# SPDX-License-Identifier: Apache-2.0
"""HTTP extenders: programs that have a say in where pods go (k8s.io/kube-scheduler/extender/v1).

The Go structs have no JSON tags, so keys are written as `Pod`, `Nodes`, `NodeNames`; answers are read without regard to
case. Pod and nodes go out as the API server has them, whole. An extender that caches nodes gets names, another one the
nodes themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import aiohttp
import msgspec

from dynamic_memory.embedded.scheduler.config import ExtenderConfig
from dynamic_memory.embedded.scheduler.types import Pod
from dynamic_memory.errors import RetryError
from dynamic_memory.kube.interface import Kube

__all__ = ["Extender", "ExtenderFailed", "Filtered"]

_OK = 200
_SCALE = 10
"""From an extender's score (0 to 10) to that of a node (0 to 100)."""


class ExtenderFailed(RetryError):
    """An extender does not answer, or answers with an error.

    Args:
        url: what was asked.
        problem: what is wrong.

    """

    def __init__(self, url: str, problem: str) -> None:
        self.url = url
        self.problem = problem
        super().__init__(url, problem)

    def __str__(self) -> str:
        return f"extender {self.url}: {self.problem}"


class Filtered(NamedTuple):
    """Nodes that are left, in the order given, and why the others are not."""

    left: list[str]
    failed: dict[str, str]


class Extender:
    """One extender.

    Args:
        config: its settings.
        kube: where pods and nodes are read whole.
        session: the HTTP client.

    """

    def __init__(self, config: ExtenderConfig, kube: Kube, session: aiohttp.ClientSession) -> None:
        self.config = config
        self._kube = kube
        self._session = session

    def interested(self, pod: Pod) -> bool:
        """Tell whether the extender wants to hear of a pod."""
        managed = self.config.managed_resources
        if not managed:
            return True
        containers = (*pod.spec.containers, *pod.spec.init_containers)
        return any(
            name in container.resources.requests or name in container.resources.limits
            for container in containers
            for name in managed
        )

    async def filter(self, pod: Pod, nodes: Sequence[str]) -> Filtered:
        """Ask which of these nodes may be used.

        Raises:
            ExtenderFailed: it does not answer, or with an error.
            ApiError: pod or nodes could not be read.

        """
        if not self.config.filter_verb:
            return Filtered(list(nodes), {})
        answer = await self._ask(self.config.filter_verb, await self._arguments(pod, nodes))
        if not isinstance(answer, dict):
            raise ExtenderFailed(self._url(self.config.filter_verb), "the answer is not an object")
        fields = {str(key).lower(): value for key, value in answer.items()}
        if fields.get("error"):
            raise ExtenderFailed(self._url(self.config.filter_verb), str(fields["error"]))
        failed = {str(k): str(v) for k, v in (fields.get("failednodes") or {}).items()}
        failed |= {str(k): str(v) for k, v in (fields.get("failedandunresolvablenodes") or {}).items()}
        left = self._left(fields)
        return Filtered([name for name in nodes if name in left], failed)

    def _left(self, fields: dict[str, Any]) -> set[str]:
        if self.config.node_cache_capable and fields.get("nodenames") is not None:
            return set(fields["nodenames"])
        listed = fields.get("nodes") or {}
        items = {str(key).lower(): value for key, value in listed.items()}.get("items") or []
        return {item["metadata"]["name"] for item in items}

    async def prioritize(self, pod: Pod, nodes: Sequence[str]) -> dict[str, int]:
        """Ask for scores; returned are points to add to those of the nodes.

        Raises:
            ExtenderFailed: it does not answer, or not with a list of scores.
            ApiError: pod or nodes could not be read.

        """
        if not self.config.prioritize_verb:
            return {}
        answer = await self._ask(self.config.prioritize_verb, await self._arguments(pod, nodes))
        scores = {}
        try:
            for item in answer:
                fields = {str(key).lower(): value for key, value in item.items()}
                scores[str(fields["host"])] = int(fields["score"]) * self.config.weight * _SCALE
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ExtenderFailed(self._url(self.config.prioritize_verb), "the answer is no list of scores") from error
        return scores

    async def bind(self, pod: Pod, node: str) -> None:
        """Have the extender bind the pod.

        Raises:
            ExtenderFailed: it does not answer, or with an error.

        """
        meta = pod.metadata
        body = {"PodName": meta.name, "PodNamespace": meta.namespace, "PodUID": meta.uid, "Node": node}
        answer = await self._ask(self.config.bind_verb, body)
        fields = {str(key).lower(): value for key, value in answer.items()} if isinstance(answer, dict) else {}
        if fields.get("error"):
            raise ExtenderFailed(self._url(self.config.bind_verb), str(fields["error"]))

    async def _arguments(self, pod: Pod, nodes: Sequence[str]) -> dict[str, Any]:
        meta = pod.metadata
        whole = await self._kube.get_raw(f"/api/v1/namespaces/{meta.namespace}/pods/{meta.name}")
        arguments: dict[str, Any] = {"Pod": msgspec.Raw(whole), "Nodes": None, "NodeNames": None}
        if self.config.node_cache_capable:
            arguments["NodeNames"] = list(nodes)
        else:
            wanted = set(nodes)
            listed = msgspec.json.decode(await self._kube.get_raw("/api/v1/nodes"))
            items = [item for item in listed.get("items") or [] if item["metadata"]["name"] in wanted]
            arguments["Nodes"] = {"metadata": {}, "items": items}
        return arguments

    async def _ask(self, verb: str, body: dict[str, Any]) -> Any:
        url = self._url(verb)
        timeout = aiohttp.ClientTimeout(total=self.config.http_timeout)
        headers = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                url, data=msgspec.json.encode(body), timeout=timeout, headers=headers
            ) as response:
                content = await response.read()
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ExtenderFailed(url, str(error) or type(error).__name__) from error
        if response.status != _OK:
            raise ExtenderFailed(url, f"status {response.status}")
        try:
            return msgspec.json.decode(content)
        except msgspec.DecodeError as error:
            raise ExtenderFailed(url, f"the answer is no JSON: {error}") from error

    def _url(self, verb: str) -> str:
        return f"{self.config.url_prefix.rstrip('/')}/{verb.lstrip('/')}"
