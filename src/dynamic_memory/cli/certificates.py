# SPDX-License-Identifier: Apache-2.0
"""The commands that get a role its certificate: once, or for as long as they run (as a sidecar of the service)."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from dynamic_memory.kube.certificates import Wanted
    from dynamic_memory.process.run import Process

__all__ = ["certificates"]


def _options(command: Any) -> Any:
    for option in reversed(
        (
            click.option(
                "--identity", required=True, help="Who it is for: dynamic-memory://OWNER/node/NAME or …/role/ROLE."
            ),
            click.option(
                "--directory",
                required=True,
                type=click.Path(path_type=Path, file_okay=False),
                help="Folder for ca.crt, tls.crt and tls.key.",
            ),
            click.option("--namespace", default="dynamic-memory", show_default=True, help="Where the controller runs."),
            click.option("--dns", multiple=True, help="A DNS name in it; for the service."),
            click.option("--kubeconfig", help="Default: the pod's service account, $KUBECONFIG or ~/.kube/config."),
        )
    ):
        command = option(command)
    return command


def _wanted(identity: str, directory: Path, namespace: str, dns: tuple[str, ...]) -> Wanted:
    from dynamic_memory.errors import InvalidInput  # noqa: PLC0415 - imported when a command runs
    from dynamic_memory.fabric.identity import is_identity  # noqa: PLC0415
    from dynamic_memory.kube.certificates import Wanted  # noqa: PLC0415

    if not is_identity(identity):
        raise InvalidInput(
            "--identity", "dynamic-memory://OWNER/node/NAME or dynamic-memory://OWNER/role/ROLE", identity
        )
    return Wanted(identity=identity, directory=directory, namespace=namespace, dns=dns)


@click.group()
def certificates() -> None:
    """Obtain and renew the certificate of a role, by a CertificateSigningRequest.

    \b
    Example:
      dynamic-memory certificates obtain --identity dynamic-memory://cluster/role/operator --directory ./tls
    """


@certificates.command()
@_options
@click.option("--timeout", default=300.0, show_default=True, help="Seconds to wait for the signature.")
def obtain(
    *, identity: str, directory: Path, namespace: str, dns: tuple[str, ...], kubeconfig: str | None, timeout: float
) -> None:
    """Obtain a certificate, unless the folder has a good one, and say until when it lasts.

    \b
    Example:
      dynamic-memory certificates obtain --identity dynamic-memory://cluster/node/node-1 --directory ./tls
    """
    from dynamic_memory.kube.certificates import main_obtain  # noqa: PLC0415
    from dynamic_memory.kube.client import Client  # noqa: PLC0415

    wanted = _wanted(identity, directory, namespace, dns)

    async def run() -> float:
        kube = Client.from_environment(kubeconfig)
        try:
            return (await main_obtain(kube, wanted, timeout=timeout)).not_after
        finally:
            await kube.close()

    import datetime as dt  # noqa: PLC0415

    until = dt.datetime.fromtimestamp(asyncio.run(run()), dt.UTC)
    click.echo(f"{wanted.certificate}: {identity}, until {until:%Y-%m-%d %H:%M} UTC")


@certificates.command()
@_options
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
def keep(
    *, identity: str, directory: Path, namespace: str, dns: tuple[str, ...], kubeconfig: str | None, log_format: str
) -> None:
    """Obtain a certificate and renew it in time, until told to stop.

    \b
    Example:
      dynamic-memory certificates keep --identity dynamic-memory://cluster/role/service \\
        --dns service.dynamic-memory.svc --directory /var/run/dynamic-memory/tls
    """
    from dynamic_memory.kube.certificates import main_keep  # noqa: PLC0415
    from dynamic_memory.kube.client import Client  # noqa: PLC0415
    from dynamic_memory.process import logging, run  # noqa: PLC0415

    wanted = _wanted(identity, directory, namespace, dns)

    async def main(process: Process) -> None:
        del process
        kube = Client.from_environment(kubeconfig)
        try:
            await main_keep(kube, wanted)
        finally:
            await kube.close()

    logging.setup("certificates", json=log_format == "json", level="info")
    sys.exit(run.run(main, role="certificates", health_address=None))
