# SPDX-License-Identifier: Apache-2.0
"""Every command explains itself with an example, and listing the commands costs nothing."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from dynamic_memory.cli import COMMANDS, cli

HEAVY = ("grpc", "lightkube", "aiohttp", "msgspec", "yaml", "cryptography", "prometheus_client")


def walk(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(path, command)]
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            found += walk(child, (*path, name))
    return found


EVERY = walk(cli)


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[" ".join(path) or "dynamic-memory" for path, _ in EVERY])
def test_help_has_an_example(path: tuple[str, ...], command: click.Command) -> None:
    text = command.get_help(click.Context(command, info_name="dynamic-memory"))

    assert "Example:" in text
    assert f"dynamic-memory {path[0] if path else 'driver'}" in text


def test_list_of_commands_imports_none_of_them() -> None:
    code = (
        "import sys; sys.argv = ['dynamic-memory', '--help']\n"
        "from dynamic_memory.cli import main\n"
        "main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip().endswith("[]"), done.stdout
    assert all(name in done.stdout for name in COMMANDS)


def test_version_is_that_of_the_package() -> None:
    from dynamic_memory import __version__

    command = [sys.executable, "-m", "dynamic_memory", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    assert f"dynamic-memory, version {__version__}\n" == done.stdout
