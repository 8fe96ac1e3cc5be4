# SPDX-License-Identifier: Apache-2.0
"""The environment that a role has as deployed: what its manifest sets for its process, beside our own."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

__all__ = ["environment", "with_bytecode"]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"


def with_bytecode(folder: Path) -> dict[str, str]:
    """Return an environment in which Python keeps what it has compiled, as it does where it is installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(folder)}


def environment(role: str, compiled: Path) -> dict[str, str]:
    """Return the environment; modules are compiled into a folder at first, as the image has them compiled already."""
    values: dict[str, str] = {}
    for path in DEPLOY.glob("5*.yaml"):
        for body in yaml.safe_load_all(path.read_text()):
            if body["kind"] in {"Deployment", "DaemonSet"} and body["metadata"]["name"] == role:
                for each in body["spec"]["template"]["spec"]["containers"]:
                    values |= {entry["name"]: entry["value"] for entry in each.get("env", ()) if "value" in entry}
    return {**with_bytecode(compiled), **values}
