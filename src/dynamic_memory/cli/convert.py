# SPDX-License-Identifier: Apache-2.0
"""The command `convert`: objects of the prototype as objects of `resource.k8s.io/v1`."""

from __future__ import annotations

from pathlib import Path

import click

from dynamic_memory.cli.gen import print_objects
from dynamic_memory.cli.schedule import LegacyCommand, errors, new_loader, read_files

__all__ = ["convert"]


@click.command(cls=LegacyCommand)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
@click.option("--strict", is_flag=True, help="Fail if something has no counterpart, or has to be mended.")
def convert(files: tuple[Path, ...], output: str, *, strict: bool) -> None:
    """Convert classes, claims and pools of the prototype to resource.k8s.io/v1.

    What has no counterpart there is named on standard error, one line each: meta classes, numbers of devices that may
    vary, amounts summed over devices, and more. What can be said in other words is said so.

    \b
    Example:
      dynamic-memory convert classes.yaml pools.yaml pod.yaml > v1.yaml
    """
    with errors():
        from dynamic_memory.allocation.prototype.convert import Conversion  # noqa: PLC0415 - when a command runs
        from dynamic_memory.errors import InvalidInput  # noqa: PLC0415

        loader = new_loader(strict=strict)
        read_files(loader, files)
        conversion = Conversion(loader.world)
        objects = list(conversion.objects())
        for note in conversion.notes:
            click.echo(f"no counterpart: {note}", err=True)
        if strict and conversion.notes:
            raise InvalidInput(str(files[0]), "only what has a counterpart in resource.k8s.io/v1")
        print_objects(objects, output)
