# SPDX-License-Identifier: Apache-2.0
"""The command that runs a whole cluster in one process, until Ctrl-C."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynamic_memory.errors import InvalidInput

if TYPE_CHECKING:
    from dynamic_memory.embedded.cluster.cluster import Cluster
    from dynamic_memory.embedded.cluster.config import ClusterConfig
    from dynamic_memory.process.run import Process

__all__ = ["log_to", "up"]

TEXT = """\
The cluster is up: {nodes} nodes, {fabric} of fabric memory, {server}

  export KUBECONFIG={kubeconfig}

What to try next:
  kubectl get nodes
  kubectl get resourceslices
  kubectl apply -f examples/resource-claims/fabric-512mi.yaml -f examples/pods/with-fabric-memory.yaml
  kubectl get pods,resourceclaims
  kubectl describe resourceclaims

Everything is in {folder}; the next `dynamic-memory up --folder {folder}` goes on from there.
Ctrl-C stops it.
"""


@click.command()
@click.option("--nodes", type=click.IntRange(0, 5000), help="How many simulated nodes. [default: 2]")
@click.option("--fabric", metavar="SIZE", help="Bytes of the fabric's pool, such as 64Gi. [default: 64Gi]")
@click.option("--config", type=click.Path(path_type=Path, dir_okay=False), help="A cluster.yaml (docs/embedded.md).")
@click.option(
    "--roles",
    type=click.Choice(["inline", "process", "none"]),
    help="Run our roles in this process, as processes, or not at all. [default: inline]",
)
@click.option(
    "--run-processes", is_flag=True, help="Containers are real processes of this machine, not simulated; turns RBAC on."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".dynamic-memory"),
    show_default=True,
    help="Where everything is.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Of the API server; 0 = any free one. [default: 55441]")
@click.option(
    "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
)
def up(*, folder: Path, log_level: str, **wishes: Any) -> int:
    """Run a Kubernetes cluster in one process: API server, scheduler, simulated nodes and fabric, and all our roles.

    \b
    Example:
      dynamic-memory up --nodes 3 --fabric 64Gi
      kubectl --kubeconfig .dynamic-memory/kubeconfig get nodes
    """
    config = _config(folder, wishes)  # whoever mistypes need not wait for the imports of a whole cluster

    from dynamic_memory.embedded.cluster.cluster import Cluster  # noqa: PLC0415 - imported when it runs
    from dynamic_memory.process.run import run  # noqa: PLC0415

    cluster = Cluster(folder, config)
    cluster.check()
    log_to(folder / "logs" / "cluster.log", log_level)

    async def main(process: Process) -> None:
        async with cluster.running():
            await cluster.wait_ready()
            process.ready.set("cluster", ok=True)
            click.echo(_text(cluster))
            await asyncio.Event().wait()

    return run(main, role="up", health_address=None)


def _config(folder: Path, wishes: dict[str, Any]) -> ClusterConfig:
    """Return what the cluster shall be: the file that is named, else that of the folder, else defaults; then options.

    Raises:
        InvalidInput: with the option or the field of the file.

    """
    import msgspec  # noqa: PLC0415

    from dynamic_memory.embedded.cluster.config import ClusterConfig  # noqa: PLC0415
    from dynamic_memory.process import config as files  # noqa: PLC0415
    from dynamic_memory.quantity import parse_bytes  # noqa: PLC0415

    last = folder / "cluster.yaml"
    path = wishes["config"] or (last if last.exists() else None)
    found = ClusterConfig() if path is None else files.load(path, ClusterConfig)
    changes: dict[str, Any] = {key: wishes[key] for key in ("roles", "port") if wishes[key] is not None}
    if wishes["run_processes"]:
        # whoever may make pods runs commands on this machine, so it has to be known who that is
        changes |= {"run_processes": True, "rbac": True}
    if wishes["nodes"] is not None:
        if len(found.nodes) != 1:
            raise InvalidInput("--nodes", "a cluster.yaml with one group of nodes", len(found.nodes))
        changes["nodes"] = (msgspec.structs.replace(found.nodes[0], count=wishes["nodes"]),)
    if wishes["fabric"] is not None:
        if len(found.fabric) != 1:
            raise InvalidInput("--fabric", "a cluster.yaml with one fabric domain", len(found.fabric))
        try:
            size = files.Bytes(parse_bytes(wishes["fabric"]))
        except InvalidInput:
            raise InvalidInput("--fabric", "a size such as 64Gi", wishes["fabric"]) from None
        if size <= 0 or size % found.fabric[0].extent_size:
            raise InvalidInput("--fabric", f"a multiple of {int(found.fabric[0].extent_size)} bytes", wishes["fabric"])
        changes["fabric"] = (msgspec.structs.replace(found.fabric[0], size=size),)
    return msgspec.structs.replace(found, **changes)


def log_to(path: Path, level: str) -> None:
    """Log to a file: the terminal is for what people want to read, and for what they have to act upon."""
    import logging  # noqa: PLC0415
    import sys  # noqa: PLC0415

    from dynamic_memory.process.logging import setup  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    setup("up", json=False, level=level)
    handler = logging.getLogger().handlers[0]
    assert isinstance(handler, logging.StreamHandler)  # noqa: S101 - `setup` makes one
    handler.setStream(path.open("a", encoding="utf-8"))
    errors = logging.StreamHandler(sys.stderr)
    errors.setLevel(logging.ERROR)
    logging.getLogger().addHandler(errors)


def _text(cluster: Cluster) -> str:
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    return TEXT.format(
        nodes=len(cluster.nodes),
        fabric=format_bytes(sum(int(pool.size) for pool in cluster.config.fabric)),
        server=cluster.server.url,
        kubeconfig=cluster.folder.kubeconfig,
        folder=cluster.folder.root,
    )
