# SPDX-License-Identifier: Apache-2.0
"""The commands that run a role for as long as its process lives: service, controller, driver, updater.

Each reads one configuration file, and nothing of a role is imported before that command is called: a driver must not
carry the memory of a controller.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

__all__ = ["controller", "driver", "service", "updater"]


def _role_options(command: Any) -> Any:
    command = click.option(
        "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of the log."
    )(command)
    command = click.option(
        "--log-level", type=click.Choice(["debug", "info", "warning", "error"]), default="info", show_default=True
    )(command)
    return click.option(
        "--config",
        required=True,
        type=click.Path(path_type=Path),
        help="Configuration file (YAML); unknown keys are refused.",
    )(command)


def _run(
    *, role: str, main: Callable[[Any, Any], Awaitable[None]], config_type: type[Any], path: Path, level: str, form: str
) -> None:
    from dynamic_memory.process import config, logging, run  # noqa: PLC0415 - see the module docstring

    settings = config.load(path, config_type)
    logging.setup(role, json=form == "json", level=level)
    sys.exit(run.run(lambda process: main(process, settings), role=role, health_address=settings.health))


@click.command()
@_role_options
def service(config: Path, log_level: str, log_format: str) -> None:
    """Run the Dynamic Memory Service in front of one fabric.

    It composes and releases memory extents for the nodes it is configured for, over gRPC with mutual TLS.

    \b
    Example:
      dynamic-memory service --config service.yaml
    """
    from dynamic_memory.fabric.config import ServiceConfig  # noqa: PLC0415
    from dynamic_memory.fabric.role import main  # noqa: PLC0415

    _run(role="service", main=main, config_type=ServiceConfig, path=config, level=log_level, form=log_format)


@click.command()
@_role_options
def controller(config: Path, log_level: str, log_format: str) -> None:
    """Run the controller: publish pools, label nodes, find orphans, sign certificates.

    Several replicas may run; one leads by a Lease.

    \b
    Example:
      dynamic-memory controller --config controller.yaml
    """
    from dynamic_memory.controller.config import ControllerConfig  # noqa: PLC0415
    from dynamic_memory.controller.role import main  # noqa: PLC0415

    _run(role="controller", main=main, config_type=ControllerConfig, path=config, level=log_level, form=log_format)


@click.command()
@_role_options
def driver(config: Path, log_level: str, log_format: str) -> None:
    """Run the DRA driver of one node: attach memory for claims, prepare them, give it back.

    \b
    Example:
      dynamic-memory driver --config driver.yaml
    """
    from dynamic_memory.driver.config import DriverConfig  # noqa: PLC0415
    from dynamic_memory.driver.role import main  # noqa: PLC0415

    _run(role="driver", main=main, config_type=DriverConfig, path=config, level=log_level, form=log_format)


@click.command()
@_role_options
def updater(config: Path, log_level: str, log_format: str) -> None:
    """Run the node capacity updater: show what is online, and raise the ceiling over pods.

    \b
    Example:
      dynamic-memory updater --config updater.yaml
    """
    from dynamic_memory.capacity.config import CapacityConfig  # noqa: PLC0415
    from dynamic_memory.capacity.role import main  # noqa: PLC0415

    _run(role="updater", main=main, config_type=CapacityConfig, path=config, level=log_level, form=log_format)
