# SPDX-License-Identifier: Apache-2.0
"""The command that runs a whole cluster in one process, until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dynamic_memory.errors import InvalidInput, RetryError

if TYPE_CHECKING:
    from dynamic_memory.embedded.cluster.cluster import Cluster
    from dynamic_memory.embedded.cluster.config import ClusterConfig
    from dynamic_memory.process.run import Process

__all__ = ["log_to", "up", "usable"]

HINTS = {
    errno.ENOSPC: "",
    errno.EDQUOT: "",
    errno.EROFS: "",
    errno.EACCES: "",
    errno.EPERM: "",
    errno.ENOENT: "",
    errno.ENOTDIR: "",
    errno.EMFILE: "; fewer nodes, or a higher `ulimit -n`, may help",
    errno.ENFILE: "",
}
"""What a machine may refuse that people can mend, and how if that is not plain."""
PATIENCE = 60.0
PATIENCE_NODE = 0.2

TEXT = """\
The cluster is up: {nodes}, {fabric} of fabric memory, {server}

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


class Unusable(RetryError):
    """The machine refuses what a cluster needs.

    Args:
        why: a sentence.

    """

    def __init__(self, why: str) -> None:
        self.why = why
        super().__init__(why)

    def __str__(self) -> str:
        return self.why


@contextlib.contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Say in a sentence that the folder cannot be used, or that nobody reads what is printed.

    Raises:
        Unusable: one of both.

    """
    try:
        yield
    except BrokenPipeError:
        # what is still to be written must not fail as well
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Unusable("nobody reads what is printed") from None
    except OSError as error:
        if error.errno not in HINTS:
            raise
        where = error.filename or folder
        raise Unusable(f"--folder: {where}: {error.strerror}{HINTS[error.errno]}") from error


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
    with usable(folder):
        log_to(folder / "logs" / "cluster.log", log_level)
    patience = PATIENCE + PATIENCE_NODE * sum(group.count for group in config.nodes)

    async def main(process: Process) -> None:
        with usable(folder):
            async with cluster.running():
                await cluster.wait_ready(patience)
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
        nodes=f"{len(cluster.nodes)} node{'' if len(cluster.nodes) == 1 else 's'}",
        fabric=format_bytes(sum(int(pool.size) for pool in cluster.config.fabric)),
        server=cluster.server.url,
        kubeconfig=cluster.folder.kubeconfig,
        folder=cluster.folder.root,
    )
