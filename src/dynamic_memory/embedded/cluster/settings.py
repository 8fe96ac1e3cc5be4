# SPDX-License-Identifier: Apache-2.0
"""The configuration files of our roles in an embedded cluster, made from the cluster's own. Pure.

They are the same files that the roles read elsewhere, so what `--roles=process` starts can be started by hand as well:
`dynamic-memory driver --config <folder>/roles/driver-node-1.yaml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.api.names import fabric_pool
from dynamic_memory.embedded.cluster.config import HUGEPAGES, ClusterConfig, NodeConfig, node_names
from dynamic_memory.embedded.cluster.folder import Folder

__all__ = ["CONTAINERD", "NAMESPACE", "controller", "driver", "host", "hugepages", "serves", "service", "updater"]

NAMESPACE = "dynamic-memory"
CONTAINERD = "etc/containerd/config.toml"
"""The runtime's configuration on a simulated host."""


def service(config: ClusterConfig, folder: Folder) -> dict[str, Any]:
    """Return the configuration of the service."""
    domains: dict[str, dict[str, Any]] = {
        pool.name: {
            "name": pool.name,
            "extentSize": int(pool.extent_size),
            "blockSize": int(pool.block_size),
            "devices": [{"name": pool.device, "size": int(pool.size), "attributes": {"latencyNs": pool.latency_ns}}],
            "hosts": [],
        }
        for pool in config.fabric
    }
    nodes: dict[str, str] = {}
    for group in config.nodes:
        pool = config.domain_of(group)
        if pool is None:
            continue
        for name in node_names(group):
            nodes[name] = f"host-{name}"
            domains[pool.name]["hosts"].append(
                {
                    "name": nodes[name],
                    "device": "port0",
                    "window": int(group.window or pool.size),
                    "maxExtents": group.max_extents,
                }
            )
    return _merged(
        {
            "listen": f"unix:{folder.service_socket}",
            "tls": None,
            "health": None,
            "owners": [
                {"name": config.owner, "nodes": nodes, "pools": [fabric_pool(pool.name) for pool in config.fabric]}
            ],
            "backend": {
                "simulated": {
                    "state": str(folder.fabric / "fabric.json"),
                    "latency": {key: float(value) for key, value in config.latency.items()},
                    "domains": list(domains.values()),
                }
            },
        },
        config.service,
    )


def controller(config: ClusterConfig, folder: Folder) -> dict[str, Any]:
    """Return the configuration of the controller: alone, so it leads at once; without TLS there is nothing to sign."""
    return _merged(
        {
            "owner": config.owner,
            "namespace": NAMESPACE,
            "health": None,
            "kubeconfig": str(folder.roles / "controller.kubeconfig"),
            "fabric": {"address": f"unix:{folder.service_socket}", "tls": None},
            "election": None,
            "authority": {"enabled": False},
        },
        config.controller,
    )


def driver(config: ClusterConfig, folder: Folder, group: NodeConfig, name: str) -> dict[str, Any]:
    """Return the configuration of the driver of a node; one that reaches no fabric serves the node's own memory."""
    node = folder.node(name)
    fabric = None if config.domain_of(group) is None else {"address": f"unix:{folder.service_socket}", "tls": None}
    return _merged(
        {
            "owner": config.owner,
            "nodeName": name,
            "podUid": "",
            "health": None,
            "kubeconfig": str(folder.roles / f"driver-{name}.kubeconfig"),
            "kubeletRoot": str(node / "kubelet"),
            "cdiDir": str(node / "cdi"),
            "stateDir": str(node / "driver"),
            "fabric": fabric,
            "host": host(config, folder, group, name),
            "local": {
                "root": str(node / "host"),
                "reserved": {"0": int(group.reserved)} if group.reserved else {},
                "containerdConfig": str(node / "host" / CONTAINERD),
                "nodeAllocatable": "off",  # the embedded scheduler does not count devices as memory of the node
            },
            "nri": {"socket": str(folder.nri_socket(name))},
        },
        config.driver,
    )


def serves(driver: Mapping[str, Any]) -> bool:
    """Tell whether a driver with this configuration has anything to offer."""
    return driver["fabric"] is not None or driver["local"] is not None


def updater(config: ClusterConfig, folder: Folder, group: NodeConfig, name: str) -> dict[str, Any]:
    """Return the configuration of the updater of a node."""
    node = folder.node(name)
    return _merged(
        {
            "nodeName": name,
            "health": None,
            "kubeconfig": str(folder.roles / f"updater-{name}.kubeconfig"),
            "host": host(config, folder, group, name),
            "ceiling": {
                "cgroupRoot": str(node / "cgroup"),
                "state": str(node / "updater" / "ceiling.json"),
                "bootId": str(node / "host" / "proc/sys/kernel/random/boot_id"),
            },
        },
        config.updater,
    )


def host(config: ClusterConfig, folder: Folder, group: NodeConfig, name: str) -> dict[str, Any]:
    """Return the part `host` of a role's configuration."""
    pool = config.domain_of(group)
    simulated: dict[str, Any] = {
        "root": str(folder.node(name) / "host"),
        "nodes": [int(size) for size in group.memory],
        "hugepages": hugepages(group),
    }
    if pool is not None:
        simulated["blockSize"] = int(pool.block_size)
    return {"simulated": simulated}


def hugepages(group: NodeConfig) -> dict[str, int]:
    """Return the huge pages of a node by the size of a page."""
    return {name.removeprefix(HUGEPAGES): int(size) for name, size in group.hugepages.items()}


def _merged(base: dict[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with additions, part by part."""
    result = dict(base)
    for key, value in more.items():
        there = result.get(key)
        result[key] = _merged(there, value) if isinstance(there, dict) and isinstance(value, Mapping) else value
    return result
