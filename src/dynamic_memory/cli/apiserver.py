# SPDX-License-Identifier: Apache-2.0
"""The command that runs the embedded API server alone: a cluster without nodes, for kubectl and client libraries."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from dynamic_memory.process.run import Process

__all__ = ["apiserver"]

_PORT = 55441
_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path, file_okay=False), help="Keep objects here; else in memory.")
@click.option("--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="0 = any free one.")
@click.option("--bind", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--test-clock", metavar="TIME", help="Start the clock there; it goes on a second with each object.")
@click.option("--kubeconfig", type=_FILE, help="Write a kubeconfig for clients.")
@click.option("--tls", is_flag=True, help="Serve HTTPS, by an authority of its own (kept in --data-dir).")
@click.option("--tls-host", multiple=True, help="A name or address that clients reach it by, beside loopback.")
@click.option("--token-auth-file", type=_FILE, help='Bearer tokens: token,user,uid,"group1,group2" a line.')
@click.option("--rbac", is_flag=True, help="Let roles and bindings decide who may do what; else everybody may.")
@click.option("--anonymous/--no-anonymous", default=True, help="Whether requests without credentials are answered.")
@click.option("--audit-log", type=_FILE, help="Write a line of JSON for each request.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info")
def apiserver(
    *,
    data_dir: Path | None,
    port: int,
    bind: str,
    test_clock: str | None,
    kubeconfig: Path | None,
    tls: bool,
    tls_host: tuple[str, ...],
    token_auth_file: Path | None,
    rbac: bool,
    anonymous: bool,
    audit_log: Path | None,
    log_level: str,
) -> int:
    """Run an API server that kubectl takes for a real one.

    \b
    Example:
      dynamic-memory apiserver --data-dir ./state --kubeconfig ./kubeconfig
      kubectl --kubeconfig ./kubeconfig get namespaces
    """
    gc.disable()  # until it serves: all that is loaded and built by then stays
    from dynamic_memory.embedded.apiserver.clock import SteppingClock  # noqa: PLC0415 - imported when it runs
    from dynamic_memory.embedded.apiserver.security import SecurityOptions  # noqa: PLC0415
    from dynamic_memory.embedded.apiserver.server import Options, serve  # noqa: PLC0415
    from dynamic_memory.process import logging  # noqa: PLC0415
    from dynamic_memory.process.run import run  # noqa: PLC0415

    logging.setup("apiserver", json=False, level=log_level)
    clock = SteppingClock(test_clock) if test_clock else None
    options = Options(
        bind=bind,
        port=port,
        data_dir=data_dir,
        clock=clock,
        kubeconfig=kubeconfig,
        tls=tls,
        tls_hosts=tls_host,
        security=SecurityOptions(rbac, token_auth_file, anonymous, audit_log),
    )

    async def main(process: Process) -> None:
        async with serve(options):
            gc.collect()
            gc.freeze()  # what never goes is not to be searched through for what does
            gc.enable()
            process.ready.set("serving", ok=True)
            await asyncio.Event().wait()

    try:
        return run(main, role="apiserver", health_address=None)
    finally:
        gc.enable()
