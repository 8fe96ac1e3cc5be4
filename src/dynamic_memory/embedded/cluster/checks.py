# SPDX-License-Identifier: Apache-2.0
"""What a `cluster.yaml` may not ask for, over several of its settings; each refusal names the field. Pure.

Whatever would stop a part of the cluster later, where nobody is there to read why, is refused here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamic_memory.embedded.apiserver import names
from dynamic_memory.embedded.apiserver.node_labels import forbidden_labels
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.config import SimulatedHostConfig
from dynamic_memory.quantity import parse_bytes

if TYPE_CHECKING:
    from dynamic_memory.embedded.cluster.config import ClusterConfig, NodeConfig, PoolConfig

__all__ = ["HUGEPAGES", "check", "node_names"]

HUGEPAGES = "hugepages-"
PAGE_SIZES = ("2Mi", "1Gi")
MAX_NODES = 5000
MAX_PORT = 65535
UNIT = 128 << 20
OF_HOST = {"nodes": "memory", "hugepages": "hugepages", "window": "window"}


def check(config: ClusterConfig) -> None:
    """Refuse what cannot be.

    Raises:
        InvalidInput: with the field's path.

    """
    if config.run_processes and not config.rbac:
        raise InvalidInput("rbac", "true with run_processes: else anybody here runs commands on this machine", False)
    if not 0 <= config.port <= MAX_PORT:
        raise InvalidInput("port", f"0 to {MAX_PORT}", config.port)
    _name("owner", config.owner)
    for number, pool in enumerate(config.fabric):
        _pool(f"fabric[{number}]", pool)
    _once("fabric", [pool.name for pool in config.fabric])
    domains = ["", *(pool.name for pool in config.fabric)]
    for number, group in enumerate(config.nodes):
        field = f"nodes[{number}]"
        if group.fabric is not None and group.fabric not in domains:
            raise InvalidInput(f"{field}.fabric", f"one of {domains[1:]}, or an empty text", group.fabric)
        _nodes(field, group, config.domain_of(group), rbac=config.rbac)
    known = [name for group in config.nodes for name in node_names(group)]
    _once("nodes", known)
    for name in config.faults.hosts:
        if name not in known:
            raise InvalidInput(f"faults.hosts.{name}", "the name of a node", name)
    _times(config)


def node_names(group: NodeConfig) -> list[str]:
    """Return the names of the nodes of a group."""
    if group.count == 1 and group.name != "node":
        return [group.name]
    return [f"{group.name}-{number}" for number in range(1, group.count + 1)]


def _times(config: ClusterConfig) -> None:
    for name, seconds in (("initialBackoff", config.control.initial_backoff), ("nodeGrace", config.control.node_grace)):
        if seconds <= 0:
            raise InvalidInput(f"control.{name}", "more than 0 seconds", float(seconds))
    for name in ("prepare", "unprepare", "call", "sync", "registry", "registration", "node_status", "lease"):
        if (seconds := getattr(config.kubelet, name)) <= 0:
            shown = "nodeStatus" if name == "node_status" else name
            raise InvalidInput(f"kubelet.{shown}", "more than 0 seconds", float(seconds))


def _pool(field: str, pool: PoolConfig) -> None:
    _name(f"{field}.name", pool.name)
    if names.dns_label(pool.device):
        raise InvalidInput(f"{field}.device", "a DNS label", pool.device)
    if pool.block_size < UNIT or pool.block_size & (pool.block_size - 1):
        raise InvalidInput(f"{field}.blockSize", "a power of two of at least 128Mi", int(pool.block_size))
    for name, size in (("size", pool.size), ("extentSize", pool.extent_size)):
        if size <= 0:
            raise InvalidInput(f"{field}.{name}", "more than 0", int(size))
    _multiple(f"{field}.size", pool.size, _unit(pool))


def _nodes(field: str, group: NodeConfig, pool: PoolConfig | None, *, rbac: bool) -> None:
    if not 0 <= group.count <= MAX_NODES:
        raise InvalidInput(f"{field}.count", f"0 to {MAX_NODES}", group.count)
    _name(f"{field}.name", group.name)
    for name, value, least in (("cpus", group.cpus, 1), ("pods", group.pods, 0), ("maxExtents", group.max_extents, 1)):
        if value < least:
            raise InvalidInput(f"{field}.{name}", f"at least {least}", value)
    _hugepages(f"{field}.hugepages", group.hugepages)
    _host(field, group, pool)
    if not 0 <= group.reserved < sum(group.memory):
        raise InvalidInput(f"{field}.reserved", "less than the memory of the node", int(group.reserved))
    if group.window is not None:
        _multiple(f"{field}.window", group.window, UNIT if pool is None else _unit(pool))
    if causes := names.validate_labels(group.labels, f"{field}.labels"):
        raise InvalidInput(f"{field}.labels", f"labels: {causes[0].message}")
    if rbac and (labels := forbidden_labels(group.labels, {})):
        raise InvalidInput(f"{field}.labels", "labels that a kubelet may set, with rbac", labels)


def _host(field: str, group: NodeConfig, pool: PoolConfig | None) -> None:
    """Refuse what the simulated host would, in the words of this file."""
    more: dict[str, Any] = {} if pool is None else {"block_size": pool.block_size}
    more["hugepages"] = {name.removeprefix(HUGEPAGES): size for name, size in group.hugepages.items()}
    try:
        SimulatedHostConfig(root=Path(), nodes=group.memory, **more)
    except InvalidInput as error:
        path = error.path.removeprefix("host.simulated.")
        part = next((part for part in OF_HOST if path.startswith(part)), path)
        raise InvalidInput(f"{field}.{OF_HOST.get(part, part)}{path[len(part) :]}", error.expected, error.got) from None


def _hugepages(field: str, hugepages: Mapping[str, int]) -> None:
    for name, size in hugepages.items():
        page = name.removeprefix(HUGEPAGES)
        if not name.startswith(HUGEPAGES) or page not in PAGE_SIZES:
            raise InvalidInput(field, "hugepages-2Mi and hugepages-1Gi", name)
        _multiple(f"{field}.{name}", size or parse_bytes(page), parse_bytes(page))


def _unit(pool: PoolConfig) -> int:
    return math.lcm(pool.extent_size, pool.block_size)


def _multiple(field: str, size: int, unit: int) -> None:
    if size <= 0 or size % unit:
        raise InvalidInput(field, f"a multiple of {unit} bytes, more than 0", int(size))


def _name(field: str, name: str) -> None:
    if names.dns_subdomain(name):
        raise InvalidInput(field, "a DNS subdomain: lower case letters, digits, '-' and '.'", name)


def _once(field: str, found: Iterable[str]) -> None:
    listed = list(found)
    again = {name for name in listed if listed.count(name) > 1}
    if again:
        raise InvalidInput(field, "names that stand once", sorted(again))
