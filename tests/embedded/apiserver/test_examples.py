# SPDX-License-Identifier: Apache-2.0
"""Every example file: applied, applied again, changed, deleted (A05), by server-side apply and by patches."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import yaml
from tests.embedded.support.asking import ROOT, Asking, Refused
from tests.embedded.support.servers import running

from dynamic_memory.embedded.apiserver.builtin import builtin_registry
from dynamic_memory.embedded.apiserver.patch import strategic

FILES = sorted((ROOT / "examples").glob("*/*.yaml"))


def objects(path: Any) -> list[dict[str, Any]]:
    found = [obj for obj in yaml.safe_load_all(path.read_text()) if obj]
    for obj in found:
        if obj["kind"] == "ConfigMap":  # one has a number, which server-side apply refuses, as the real server does
            obj["data"] = {name: str(value) for name, value in obj["data"].items()}
    return found


@pytest.fixture
async def api() -> AsyncIterator[Asking]:
    async with running() as server:
        yield Asking(server.server.api)


async def apply(api: Asking, obj: dict[str, Any], namespace: str, manager: str = "kubectl") -> dict[str, Any]:
    found: dict[str, Any] = await api.patch(obj, obj, namespace, style="apply", fieldManager=manager)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
async def test_A05_an_example_is_created_unchanged_configured_and_deleted(api, path):
    found = objects(path)
    assert found
    namespaces = {obj["metadata"]["namespace"] for obj in found if "namespace" in obj["metadata"]} - {"default"}
    for name in namespaces - {obj["metadata"]["name"] for obj in found if obj["kind"] == "Namespace"}:
        await api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for obj in found:
        namespace = obj["metadata"].get("namespace", "default")
        made = await apply(api, obj, namespace)
        again = await apply(api, obj, namespace)
        assert again == made, "unchanged"
        style = "strategic" if api.api.core.registry.find_kind(*_kind(obj)).builtin else "merge"
        changed = await api.patch(obj, {"metadata": {"labels": {"changed": "1"}}}, namespace, style=style)
        assert changed["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"], "configured"
        assert await api.patch(obj, {"metadata": {"labels": {"changed": "1"}}}, namespace, style=style) == changed
        await apply(api, {**obj, "metadata": {**obj["metadata"], "annotations": {"a": "1"}}}, namespace)
        kept = await apply(api, obj, namespace)
        assert "a" not in kept["metadata"].get("annotations", {}), "what is not said any more is gone"
        assert kept["metadata"]["labels"]["changed"] == "1", "what others said stays"
        assert _without_metadata(kept) == _without_metadata(made)
    for obj in reversed(found):
        namespace = obj["metadata"].get("namespace", "default")
        await api.delete(obj, namespace)
        with pytest.raises(Refused, match="not found"):
            await api.call("GET", api.path(obj, namespace, obj["metadata"]["name"]))


def _kind(obj: dict[str, Any]) -> tuple[str, str, str]:
    group, _, version = obj["apiVersion"].rpartition("/")
    return group, version, obj["kind"]


def _without_metadata(obj: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in obj.items() if key != "metadata"}


def test_A05_devices_of_the_prototype_in_a_pod_are_merged_by_their_name():
    """What `kubectl apply` sends for a changed pod: a strategic merge patch of its own making."""
    pod = objects(ROOT / "examples" / "prototype" / "pod-multi-net-0.yaml")[0]
    resource = builtin_registry().find("", "v1", "pods")
    assert resource is not None

    def patched(*items: dict[str, str]) -> list[dict[str, str]]:
        patch = {"spec": {"deviceClaims": {"devices": list(items)}}}
        devices: list[dict[str, str]] = strategic.apply(resource.schema, pod, patch)["spec"]["deviceClaims"]["devices"]
        return devices

    before = {"name": "netdev0", "class": "example.com-sriov-vf"}
    assert patched({"name": "netdev1", "class": "other"}) == [{"name": "netdev1", "class": "other"}, before]
    assert patched({"name": "netdev0", "class": "other"}) == [{"name": "netdev0", "class": "other"}]
    assert patched({"name": "netdev0", "$patch": "delete"}) == []
