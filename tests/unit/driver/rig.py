# SPDX-License-Identifier: Apache-2.0
"""A whole driver in virtual time: the real loop, records and slices; a fabric, a host and an API server in memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.fake_fabric import FakeRig
from tests.support.fake_host import FakeHost
from tests.unit.driver.api_server import ApiServer
from tests.unit.driver.conftest import NODE, claim_body

from dynamic_memory.api.kinds import RESOURCE_CLAIMS
from dynamic_memory.driver.calls import ClaimRef, Device
from dynamic_memory.driver.config import DriverConfig, FabricConfig, Timing
from dynamic_memory.driver.driver import Driver
from dynamic_memory.driver.unprepare import Unpreparer
from dynamic_memory.host.config import HostConfig
from dynamic_memory.process import clock
from dynamic_memory.process.readiness import Readiness


class Rig:
    """One node; the driver can be started, stopped as by SIGTERM, and killed."""

    def __init__(self, folder: Path, fabric: FakeRig, timing: Timing) -> None:
        self.folder = folder
        self.fabric = fabric
        self.timing = timing
        self.api = ApiServer()
        self.host = FakeHost()
        self.driver: Driver | None = None
        self.registered = 0
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def open(cls, folder: Path, **arguments: Any) -> Rig:
        timing = arguments.pop("timing", Timing())
        return cls(folder, await FakeRig.open(**arguments), timing)

    def config(self, **changes: Any) -> DriverConfig:
        settings = {
            "owner": "c1",
            "fabric": FabricConfig(address="unused", tls=None),
            "host": HostConfig(),
            "node_name": NODE,
            "pod_uid": "",
            "kubelet_root": "/nowhere",  # its sockets are not opened
            "cdi_dir": str(self.folder / "cdi"),
            "state_dir": str(self.folder / "state"),
            "timing": self.timing,
        }
        return DriverConfig(**{**settings, **changes})

    def make(self, **changes: Any) -> Driver:
        """A driver whose sockets are not opened: virtual time and gRPC do not go together."""
        driver = Driver(
            self.config(**changes), kube=self.api, fabric=self.fabric.as_node(NODE), host=self.host, ready=Readiness()
        )

        async def opened(_path: Path) -> None:
            return

        async def registered(_path: Path) -> None:
            self.registered += 1

        driver._plugin.start = opened
        driver._registration.start = registered
        return driver

    async def start(self, **changes: Any) -> Driver:
        self.driver = self.make(**changes)
        self._tasks.append(asyncio.create_task(self.driver.run()))
        return self.driver

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks.clear()

    async def until(self, what: Callable[[], Any], seconds: float = 30.0) -> Any:
        """Wait for something to be true."""
        end = clock.monotonic() + seconds
        while not (found := what()):
            assert clock.monotonic() < end, "it did not come true"
            await clock.sleep(0.01)
        return found

    # --- users

    def add_claim(self, **how: Any) -> ClaimRef:
        body = self.api.put(RESOURCE_CLAIMS, claim_body(**how))
        meta = body["metadata"]
        return ClaimRef(meta["namespace"], meta["name"], meta["uid"])

    async def attached(self, **how: Any) -> ClaimRef:
        """A claim whose memory is there."""
        ref = self.add_claim(**how)
        await self.until(lambda: self.api.conditions(ref.name).get("Attached", ("",))[0] == "True")
        await self.until(lambda: (r := self.driver.node.records.get(ref.uid)) and r.shares[0].state == "attached")
        return ref

    async def prepare(self, ref: ClaimRef, seconds: float = 40.0) -> list[Device]:
        return await self.driver._plugin._preparer.prepare(ref, clock.monotonic() + seconds)

    async def unprepare(self, ref: ClaimRef, seconds: float = 40.0) -> None:
        unpreparer: Unpreparer = self.driver._plugin._unpreparer
        await unpreparer.unprepare(ref, clock.monotonic() + seconds)

    async def extents(self) -> list[str]:
        """Tags of what the fabric holds."""
        return sorted(share.tag for share in (await self.fabric.as_operator().list_extents()).shares)

    def tag(self, name: str = "far") -> str:
        return self.api.raw_claim(name)["status"]["allocation"]["devices"]["results"][0]["shareID"]

    def specs(self) -> list[str]:
        folder = self.folder / "cdi"
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def record(self, ref: ClaimRef) -> Any:
        return self.driver.node.records.get(ref.uid)
