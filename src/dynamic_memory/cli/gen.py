# SPDX-License-Identifier: Apache-2.0
"""The command `gen`: sample capacity to try things out with.

Objects are printed one after the other, as YAML documents or as JSON lines, so that a cluster of any size can be made.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import click

from dynamic_memory.cli.schedule import LegacyCommand, errors

__all__ = ["gen", "print_objects"]


def print_objects(objects: Iterable[dict[str, Any]], output: str) -> None:
    """Print objects one after the other, as YAML documents or JSON lines."""
    import yaml  # noqa: PLC0415 - imported when a command runs

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # whichever there is
        def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - signature of yaml
            return True

    stream = sys.stdout
    for number, found in enumerate(objects):
        if output == "json":
            stream.write(json.dumps(found, separators=(",", ":")))
            stream.write("\n")
            continue
        stream.write("---\n" if number else "")
        yaml.dump(found, stream, Dumper=Dumper, sort_keys=False, allow_unicode=True)


class _Gen(click.Group):
    """Takes the name of a shape where other groups have commands only."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Give what is no command to the command for shapes."""
        if args and args[0] not in self.commands:
            return "shape", self.commands["shape"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_Gen)
def gen() -> None:
    """Print sample capacity: `gen SHAPE` for the pools of a shape, `gen memory` for slices of memory.

    \b
    Example:
      dynamic-memory gen foozer-1000-small
      dynamic-memory gen memory --nodes 1000 --numa 2 --size 256Gi > slices.yaml
    """


_OUTPUT = click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)


@gen.command(cls=LegacyCommand, name="shape")
@click.argument("shape")
@_OUTPUT
def shape_(shape: str, output: str) -> None:
    """Print the pools of a shape: two nodes of devices (generation v2).

    An unknown shape is an error that names the known ones.

    \b
    Example:
      dynamic-memory gen dgxa100
    """
    with errors():
        from dynamic_memory.allocation.prototype.shapes import generate  # noqa: PLC0415 - imported when a command runs

        print_objects(generate(shape), output)


def _size(_: click.Context, parameter: click.Parameter, value: str) -> int:
    from dynamic_memory.errors import InvalidInput  # noqa: PLC0415 - imported when a command runs
    from dynamic_memory.quantity import parse_bytes  # noqa: PLC0415

    try:
        return parse_bytes(value)
    except InvalidInput as error:
        raise click.BadParameter(str(error), param=parameter) from error


@gen.command(cls=LegacyCommand)
@click.option("--nodes", type=int, required=True, help="How many nodes.")
@click.option("--numa", type=int, default=1, show_default=True, help="NUMA nodes of each.")
@click.option("--size", default="64Gi", show_default=True, callback=_size, help="Memory of a NUMA node.")
@click.option("--huge-2m", default="0", show_default=True, callback=_size, help="2Mi pages of a NUMA node, in bytes.")
@click.option("--huge-1g", default="0", show_default=True, callback=_size, help="1Gi pages of a NUMA node, in bytes.")
@click.option("--unit", default="64Mi", show_default=True, callback=_size, help="Every size is a multiple of this.")
@click.option("--fabric", default="0", show_default=True, callback=_size, help="Memory of each fabric domain's pool.")
@click.option("--window", default="0", callback=_size, help="What a node can map of it; default: all.")
@click.option("--extents", type=int, default=64, show_default=True, help="How many pieces of it a node can map.")
@click.option("--nodes-per-domain", type=int, default=16, show_default=True, help="Nodes of a fabric domain.")
@click.option("--prefix", default="node", show_default=True, help="Names of nodes begin with it.")
@click.option("--classes", is_flag=True, help="Print the device classes too.")
@_OUTPUT
def memory(*, output: str, classes: bool, **numbers: Any) -> None:
    """Print ResourceSlices (resource.k8s.io/v1) of memory, for as many nodes as you like.

    \b
    Example:
      dynamic-memory gen memory --nodes 100 --numa 2 --size 128Gi --fabric 4Ti --classes
    """
    with errors():
        from dynamic_memory.allocation.prototype.memory import MemoryShape, generate_memory  # noqa: PLC0415
        from dynamic_memory.cli.gen_fabric import SampleFabric  # noqa: PLC0415

        print_objects(generate_memory(MemoryShape(**numbers), SampleFabric(), classes=classes), output)
