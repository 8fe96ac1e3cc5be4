# SPDX-License-Identifier: Apache-2.0
"""The command that shows the main job on a cluster in this process: lines in a pipe, a live picture on a terminal."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import click

from dynamic_memory.cli.output import table
from dynamic_memory.cli.up import log_to, usable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from dynamic_memory.embedded.cluster.config import ClusterConfig
    from dynamic_memory.embedded.cluster.story import Picture
    from dynamic_memory.embedded.cluster.trace import Trace
    from dynamic_memory.process.run import Process

__all__ = ["demo"]

TABLES = {
    "nodes": ("NODE", "STATUS", "MEMORY", "FABRIC MEMORY", "LIMIT OF PODS"),
    "pods": ("POD", "STATUS", "NODE"),
    "claims": ("CLAIM", "STATE", "NODE", "DRIVER SAYS"),
    "extents": ("EXTENT TAG", "NODE", "POOL", "DEVICE", "EXTENTS", "SIZE"),
}
KEPT = """\

The cluster goes on running, until Ctrl-C. What to try next:

  export KUBECONFIG={kubeconfig}
  kubectl get nodes,resourceslices
  kubectl apply -f examples/resource-claims/fabric-512mi.yaml -f examples/pods/with-fabric-memory.yaml
  kubectl get pods,resourceclaims
"""
LINES = 14


@click.command()
@click.option("--keep", is_flag=True, help="Leave the cluster running at the end, until Ctrl-C.")
@click.option("--nodes", type=click.IntRange(1, 1000), default=2, show_default=True, help="How many simulated nodes.")
@click.option("--plain", is_flag=True, help="Lines, also on a terminal.")
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Where everything is. [default: a temporary one]"
)
def demo(*, keep: bool, nodes: int, plain: bool, folder: Path | None) -> int:
    """Show how a pod gets fabric memory and gives it back, with the time of every step.

    \b
    Example:
      dynamic-memory demo
      dynamic-memory demo --keep
    """
    from dynamic_memory.embedded.cluster.cluster import Cluster  # noqa: PLC0415 - imported when it runs
    from dynamic_memory.process.run import run  # noqa: PLC0415

    place = folder or Path(tempfile.mkdtemp(prefix="dynamic-memory-"))
    Cluster(place, _config(nodes)).check()
    with usable(place):
        log_to(place / "logs" / "cluster.log", "info")
    failures: list[str] = ["it was interrupted"]

    async def main(process: Process) -> None:
        with usable(place):
            await _show(process, place, nodes, failures, plain=plain, keep=keep)

    try:
        code = run(main, role="demo", health_address=None)
    finally:
        if folder is None:
            shutil.rmtree(place, ignore_errors=True)
    for failure in failures:
        click.echo(f"not as it should be: {failure}", err=True)
    return code or int(bool(failures))


async def _show(process: Process, folder: Path, nodes: int, failures: list[str], *, plain: bool, keep: bool) -> None:
    """Show everything; what went wrong is in `failures` as soon as the story is told, before the cluster is kept."""
    from dynamic_memory.embedded.cluster.cluster import Cluster  # noqa: PLC0415
    from dynamic_memory.embedded.cluster.story import Story  # noqa: PLC0415
    from dynamic_memory.embedded.cluster.trace import LogMarks, Trace  # noqa: PLC0415

    trace = Trace(time.monotonic)
    began = time.monotonic()
    with _heard(LogMarks(trace)):  # what is published before the story begins counts too
        async with Cluster(folder, _config(nodes)).running() as cluster:
            await cluster.wait_ready()
            # in a folder that was used before it is published already, and nobody says so
            trace.mark("published", "the fabric's pool is published")
            process.ready.set("cluster", ok=True)
            view: Any = _Plain() if plain or not sys.stdout.isatty() else _live()
            with view:
                up = time.monotonic() - began
                view.say(f"A cluster of {nodes} nodes is up after {up:.1f} s: {cluster.server.url}")
                failures[:] = await Story(cluster, view, trace).tell()
            _timeline(trace)
            if not failures:
                click.echo(f"\nAll of it happened, in {time.monotonic() - began:.1f} s.")
            if keep:
                click.echo(KEPT.format(kubeconfig=cluster.folder.kubeconfig))
                await asyncio.Event().wait()


@contextlib.contextmanager
def _heard(handler: Any) -> Iterator[None]:
    """Give what is logged to a handler."""
    import logging  # noqa: PLC0415

    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def _config(nodes: int) -> ClusterConfig:
    from dynamic_memory.embedded.cluster.config import ClusterConfig  # noqa: PLC0415
    from dynamic_memory.process import config  # noqa: PLC0415

    # a fabric that takes a moment: each step can be seen
    text = f"""
    port: 0
    nodes: [{{count: {nodes}, memory: [8Gi, 8Gi]}}]
    fabric: [{{size: 64Gi}}]
    latency: {{add: 0.4, remove: 0.3}}
    """
    return config.loads(text.encode(), ClusterConfig, name="demo")


def _timeline(trace: Trace) -> None:
    from dynamic_memory.embedded.cluster.trace import ARROWS  # noqa: PLC0415

    rows = []
    for arrow in ARROWS:
        at = trace.at(arrow.mark)
        moment = "never" if at is None else "before" if at < 0 else f"{at:.3f} s"
        rows.append((str(arrow.number), moment, f"{arrow.source} -> {arrow.target}", arrow.text, arrow.how))
    click.echo("\nThe sequence, arrow by arrow (seconds after the submission)\n")
    click.echo(table(("#", "TIME", "WHO", "WHAT", "HERE"), rows))


class _Plain:
    """Lines, one after the other."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def chapter(self, title: str) -> None:
        click.echo(f"\n== {title}\n")

    def say(self, text: str) -> None:
        click.echo(text)

    def happened(self, seconds: float, text: str) -> None:
        click.echo(f"{seconds:8.3f} s  {text}")

    def show(self, picture: Picture, *, whole: bool) -> None:
        if whole:
            for name, header in TABLES.items():
                rows: Sequence[tuple[str, ...]] = getattr(picture, name)
                if rows:
                    click.echo(f"\n{table(header, rows)}")


def _live() -> Any:
    from dynamic_memory.cli.live import Live  # noqa: PLC0415 - rich is for terminals alone

    return Live(TABLES, LINES)
