# SPDX-License-Identifier: Apache-2.0
"""Claims as a scheduler writes them, for all tests of the driver."""

from __future__ import annotations

import asyncio
import copy
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.unit.driver.nri_world import OLD, World

from dynamic_memory.api.resource import ResourceClaim

MIB = 1 << 20
NODE = "n1"
POOL = "fabric/rack-1"


def claim_body(
    name: str = "far",
    *,
    uid: str = "",
    node: str = NODE,
    size: str = "512Mi",
    tag: str = "",
    pods: tuple[str, ...] = ("p1",),
    namespace: str = "app",
) -> dict[str, Any]:
    """A claim that the scheduler has allocated, as JSON."""
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": namespace, "uid": uid or str(uuid.uuid4())},
        "spec": {
            "devices": {
                "requests": [
                    {
                        "name": "far",
                        "exactly": {
                            "deviceClassName": "dra.fabric-memory",
                            "allocationMode": "ExactCount",
                            "count": 1,
                            "capacity": {"requests": {"size": size}},
                        },
                    },
                    {
                        "name": "far-window",
                        "exactly": {
                            "deviceClassName": "dra.fabric-window",
                            "allocationMode": "ExactCount",
                            "count": 1,
                            "capacity": {"requests": {"size": size}},
                        },
                    },
                ],
                "constraints": [{"requests": ["far", "far-window"], "matchAttribute": "dra.memory/fabricDomain"}],
            }
        },
        "status": allocation(node=node, size=size, tag=tag, pods=pods),
    }


def allocation(
    *,
    node: str = NODE,
    size: str = "512Mi",
    tag: str = "",
    pods: tuple[str, ...] = ("p1",),
    config: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The status of an allocated claim."""
    return {
        "allocation": {
            "nodeSelector": {
                "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
            },
            "devices": {
                "config": list(config),
                "results": [
                    {
                        "request": "far",
                        "driver": "dra.memory",
                        "pool": POOL,
                        "device": "cxl0",
                        "shareID": tag or str(uuid.uuid4()),
                        "consumedCapacity": {"size": size},
                        "bindingConditions": ["dynamicmemory.dev/Attached"],
                        "bindingFailureConditions": ["dynamicmemory.dev/AttachFailed"],
                    },
                    {
                        "request": "far-window",
                        "driver": "dra.memory",
                        "pool": f"{node}/windows",
                        "device": "port0",
                        "shareID": str(uuid.uuid4()),
                        "consumedCapacity": {"size": size, "extents": "1"},
                    },
                ],
            },
        },
        "reservedFor": [{"resource": "pods", "name": pod, "uid": f"uid-{pod}"} for pod in pods],
    }


def decode(body: dict[str, Any]) -> ResourceClaim:
    return msgspec.convert(copy.deepcopy(body), ResourceClaim)


@pytest.fixture
def body() -> dict[str, Any]:
    return claim_body()


@pytest.fixture(scope="session", autouse=True)
def main_loop():
    """A loop for the main thread: pytest-asyncio asks for one at each test, and would leave one unclosed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()


@pytest.fixture
async def rig(tmp_path, monkeypatch):
    """A node without a driver; `await rig.start()` starts one. For virtual time."""
    from tests.unit.driver.rig import Rig

    async def inline(function, *arguments, **keywords):
        return function(*arguments, **keywords)

    # a thread would be waited for in real time while virtual time runs away
    monkeypatch.setattr(asyncio, "to_thread", inline)
    # virtual time moves in whole microseconds, timers do not: one that is due a trifle later would never come
    asyncio.get_running_loop()._clock_resolution = 1e-6
    made = await Rig.open(tmp_path)
    yield made
    await made.stop()


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A node whose driver is an NRI plugin."""
    return World(tmp_path)


@pytest.fixture(params=["cdi-shown", "environment-only"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """A node whose runtime shows CDI devices, or one that does not."""
    made = World(tmp_path)
    if request.param == "environment-only":
        made.runtime = OLD
        made.restart()
    return made
