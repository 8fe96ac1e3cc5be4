# SPDX-License-Identifier: Apache-2.0
"""The commands that ask a Dynamic Memory Service what it holds, and, in need, take memory back by force."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from dynamic_memory.cli.output import age, format_option, render

if TYPE_CHECKING:
    from dynamic_memory.fabric.client import Fabric
    from dynamic_memory.fabric.model import Capacity, Share

__all__ = ["fabric"]

T = TypeVar("T")


class _Connection(msgspec.Struct, frozen=True):
    """How to reach the service."""

    address: str
    tls: Path | None
    identity: str | None
    server_name: str | None

    def call(self, ask: Callable[[Fabric], Awaitable[T]]) -> T:
        """Connect, ask one thing, and disconnect."""
        from dynamic_memory.errors import InvalidInput  # noqa: PLC0415 - imported when a command runs
        from dynamic_memory.fabric.client import FabricClient, TlsFiles  # noqa: PLC0415

        files = None
        if self.tls is not None:
            files = TlsFiles(*(str(self.tls / name) for name in ("ca.crt", "tls.crt", "tls.key")))
        elif self.identity is None:
            raise InvalidInput("--tls", "a folder with ca.crt, tls.crt and tls.key (or --identity, without TLS)")

        async def run() -> T:
            client = FabricClient.connect(
                self.address, files, identity=None if files else self.identity, server_name=self.server_name
            )
            try:
                return await ask(client)
            finally:
                await client.close()

        return asyncio.run(run())


@click.group()
@click.option("--address", default="127.0.0.1:7443", show_default=True, help="host:port or unix:/path of the service.")
@click.option("--tls", type=click.Path(path_type=Path), help="Folder with ca.crt, tls.crt and tls.key.")
@click.option("--server-name", help="Name in the service's certificate, where it is not that of the address.")
@click.option("--identity", help="Who you are, to a service without TLS: dynamic-memory://OWNER/role/operator.")
@click.pass_context
def fabric(
    context: click.Context, *, address: str, tls: Path | None, server_name: str | None, identity: str | None
) -> None:
    """Ask the Dynamic Memory Service what it has and who holds it.

    \b
    Example:
      dynamic-memory fabric --tls ./tls --address service.dynamic-memory.svc:7443 extents
    """
    context.obj = _Connection(address, tls, identity, server_name)


@fabric.command()
@format_option
@click.pass_obj
def capacity(connection: _Connection, output: str) -> None:
    """Show pool devices and hosts: how much there is, how much is free, and whether it works.

    \b
    Example:
      dynamic-memory fabric --tls ./tls capacity -o yaml
    """
    found: Capacity = connection.call(lambda client: client.get_capacity())
    click.echo(_capacity(found, output))


@fabric.command()
@format_option
@click.option("--node", help="Only what this node holds.")
@click.pass_obj
def extents(connection: _Connection, output: str, node: str | None) -> None:
    """Show every share: its tag (the claim's shareID), node, pool device and bytes.

    \b
    Example:
      dynamic-memory fabric --tls ./tls extents --node node-1
    """
    snapshot = connection.call(lambda client: client.list_extents())
    shares = [share for share in snapshot.shares if node is None or share.node == node]
    click.echo(_extents(shares, output))


@fabric.command()
@click.argument("tag")
@click.option("--force", is_flag=True, help="Take it back without the node. Only if its host is off for good.")
@click.confirmation_option(prompt="A host that still uses this memory will crash. Go on?")
@click.pass_obj
def release(connection: _Connection, tag: str, force: bool) -> None:
    """Ask the node to give a share back; with --force, take it.

    \b
    Example:
      dynamic-memory fabric --tls ./tls release 6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11
    """
    removed = connection.call(lambda client: client.remove_memory(tag, force=force))
    click.echo(f"{tag}: {removed.state}")


def _size(count: int) -> str:
    from dynamic_memory.quantity import format_bytes  # noqa: PLC0415

    return format_bytes(count)


def _capacity(found: Capacity, output: str) -> str:
    data: Any = msgspec.to_builtins(found)
    pools = render(
        output,
        data,
        ("POOL", "DEVICE", "TOTAL", "FREE", "UNIT", "STATE"),
        (
            (
                item.pool,
                item.device,
                _size(item.total),
                _size(item.free),
                _size(item.unit),
                _state(item.healthy, item.why),
            )
            for item in found.pools
        ),
    )
    if output in {"json", "yaml"}:
        return pools
    hosts = render(
        output,
        data,
        ("NODE", "HOST", "DOMAIN", "WINDOW", "USED", "EXTENTS", "SESSION", "STATE"),
        (
            (
                item.node,
                item.host,
                item.domain,
                _size(item.total),
                _size(item.used),
                f"{item.used_extents}/{item.max_extents}",
                _session(item.session, item.session_age),
                _state(item.healthy, item.why),
            )
            for item in found.hosts
        ),
    )
    note = "\n\nThis fabric is simulated." if found.simulated else ""
    return f"{pools}\n\n{hosts}{note}"


def _extents(shares: list[Share], output: str) -> str:
    wide = ("RANGES",) if output == "wide" else ()
    return render(
        output,
        msgspec.to_builtins(shares),
        ("TAG", "NODE", "POOL", "DEVICE", "SIZE", "STATE", *wide),
        (
            (
                share.tag,
                share.node,
                share.pool,
                share.device,
                _size(share.size),
                "release requested" if share.release_requested else "held",
                *((",".join(f"{item.device_offset:#x}+{_size(item.size)}" for item in share.ranges),) if wide else ()),
            )
            for share in shares
        ),
    )


def _state(healthy: bool, why: str) -> str:
    return "ok" if healthy else f"down: {why}" if why else "down"


def _session(session: bool, seconds: float | None) -> str:
    if session:
        return "open"
    return "none" if seconds is None else f"{age(seconds)} ago"
