# SPDX-License-Identifier: Apache-2.0
"""The role `updater`: the process of the DaemonSet, from a configuration file to a running `Updater`."""

from __future__ import annotations

from dynamic_memory.capacity.config import CapacityConfig
from dynamic_memory.capacity.metrics import Metrics
from dynamic_memory.capacity.updater import Updater
from dynamic_memory.host.config import open_host
from dynamic_memory.kube.client import Client
from dynamic_memory.process.run import Process

__all__ = ["main"]


async def main(process: Process, config: CapacityConfig) -> None:
    """Run the updater until the process is told to stop."""
    host = open_host(config.host)
    kube = Client.from_environment(config.kubeconfig)
    metrics = Metrics()
    try:
        await Updater(config, kube=kube, host=host, ready=process.ready, metrics=metrics).run()
    finally:
        metrics.close()
        await kube.close()
