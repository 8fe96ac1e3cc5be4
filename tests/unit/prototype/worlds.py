# SPDX-License-Identifier: Apache-2.0
"""What the prototype's tests share: worlds made of the example files, and decisions in few words."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from pathlib import Path

from click.testing import CliRunner, Result

from dynamic_memory.allocation.prototype.loader import Loader
from dynamic_memory.allocation.prototype.outcomes import Decision
from dynamic_memory.allocation.prototype.schedule import Scheduler
from dynamic_memory.allocation.prototype.world import World
from dynamic_memory.cli.schedule import schedule

EXAMPLES = Path(__file__).parents[3] / "examples" / "prototype"
VERSION = "devmgmtproto.k8s.io/v1alpha1"
SETS = {
    "A": ("pools-two-nodes-two-simple-gpus",),
    "B": ("pools-one-node-sriov-0",),
    "C": ("pools-one-node-sriov-1",),
    "D": ("pools-two-nodes-one-dgxa100",),
}
SETS["ABC"] = SETS["A"] + SETS["B"] + SETS["C"]


def example(name: str) -> Path:
    return EXAMPLES / f"{name}.yaml"


def world_of(*files: str | Path, text: str = "", classes: bool = True) -> World:
    """Load example files by name, and more text."""
    loader = Loader()
    for file in ("classes", *files) if classes else files:
        path = file if isinstance(file, Path) else example(file)
        loader.read(path.read_text(), path.name)
    if text:
        loader.read(text, "text")
    return loader.world


def decide(world: World, pod: str | None = None, *, verbose: bool = False) -> Decision:
    """Place a pod, the only one if it is not named."""
    keys = list(world.pods) if pod is None else [("default", pod)]
    assert len(keys) == 1, keys
    ids = (f"00000000-0000-4000-8000-{number:012}" for number in itertools.count())
    return Scheduler(world, lambda: next(ids), verbose=verbose).place(world.sources[keys[0]])


def devices(decision: Decision) -> list[str]:
    """Return the devices of each claim, joined by spaces; pools of a node are written without it."""
    return [
        " ".join(f"{entry['devicePoolName']}/{entry['deviceName']}" for entry in claim.status["allocations"])
        for claim in decision.claims
    ]


def run(*arguments: str | Path) -> Result:
    """Call `schedule` as from a shell; its standard output and exit code."""
    return CliRunner().invoke(schedule, [str(argument) for argument in arguments])


def pool(name: str, node: str, driver: str, devices: Iterable[str], attributes: str = "", shared: str = "") -> str:
    """Return a DevicePool; attributes as `key=value` words, devices as YAML flow mappings."""
    pairs = (pair.split("=") for pair in attributes.split())
    common = ", ".join(f"{{name: {key}, stringValue: '{value}'}}" for key, value in pairs)
    listed = "".join(f"  - {device}\n" for device in devices)
    place = f"nodeName: {node}, " if node else ""
    return (
        f"apiVersion: {VERSION}\nkind: DevicePool\nmetadata: {{name: {name}}}\n"
        f"spec:\n  driver: {driver}\n"
        + (f"  nodeName: {node}\n" if place else "")
        + f"  attributes: [{common}]\n  sharedResources: [{shared}]\n  devices:\n{listed}---\n"
    )


def claim(name: str, spec: str, status: str = "") -> str:
    """Return a DeviceClaim with a spec as YAML flow text."""
    tail = f"status: {status}\n" if status else ""
    return f"apiVersion: {VERSION}\nkind: DeviceClaim\nmetadata: {{name: {name}}}\nspec: {spec}\n{tail}---\n"


def class_(name: str, driver: str, constraints: str = "", labels: str = "") -> str:
    own = f', constraints: "{constraints}"' if constraints else ""
    return (
        f"apiVersion: {VERSION}\nkind: DeviceClass\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n"
        f"spec: {{definition: {{driver: {driver}{own}}}}}\n---\n"
    )


def pod(name: str, claims: str, extra: str = "", containers: str = "[{name: c, image: i}]") -> str:
    """Return a pod whose spec has `claims` (flow text, like `deviceClaims: {claimName: x}`)."""
    return (
        f"apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n"
        f"spec: {{{claims}, containers: {containers}{extra}}}\n---\n"
    )
