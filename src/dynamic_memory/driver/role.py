# SPDX-License-Identifier: Apache-2.0
"""The role `driver`: the process of the DaemonSet, from a configuration file to a running `Driver`."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.driver.driver import Driver
from dynamic_memory.fabric.client import FabricClient, TlsFiles
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.fabric.none import NoFabric
from dynamic_memory.host.config import open_host
from dynamic_memory.kube import certificates
from dynamic_memory.kube.client import Client
from dynamic_memory.kube.interface import Kube
from dynamic_memory.process.run import Process

__all__ = ["main", "run"]


async def main(process: Process, config: DriverConfig) -> None:
    """Run the driver until the process is told to stop."""
    kube = Client.from_environment(config.kubeconfig)
    try:
        await run(process, config, kube)
    finally:
        await kube.close()


async def run(process: Process, config: DriverConfig, kube: Kube) -> None:
    """Run the driver with a client that is there already."""
    identity = str(Identity.node(config.owner, config.node))
    folder = Path(config.fabric.tls) if config.fabric is not None and config.fabric.tls is not None else None
    fabric: Fabric = NoFabric()
    if config.fabric is not None:
        fabric = FabricClient.connect(config.fabric.address, _files(folder), identity=identity)
    try:
        host = open_host(config.host, fabric=config.fabric is not None)
        driver = Driver(config, kube=kube, fabric=fabric, host=host, ready=process.ready)
        async with asyncio.TaskGroup() as group:
            if folder is not None:
                group.create_task(
                    certificates.keep_fresh(kube, identity, directory=folder, namespace=config.ca_namespace)
                )
            group.create_task(driver.run())
    finally:
        await fabric.close()


def _files(folder: Path | None) -> TlsFiles | None:
    if folder is None:
        return None
    return TlsFiles(ca=str(folder / "ca.crt"), certificate=str(folder / "tls.crt"), key=str(folder / "tls.key"))
