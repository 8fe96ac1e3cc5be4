# SPDX-License-Identifier: Apache-2.0
"""The file of an embedded cluster, `cluster.yaml`: nodes, fabric, latencies, faults, times. All has defaults."""

from typing import Any, Literal

import msgspec

from dynamic_memory.embedded.cluster.checks import HUGEPAGES, check, node_names
from dynamic_memory.embedded.kubelet.config import Periods
from dynamic_memory.fabric.backends.faults import Faults as FabricFaults
from dynamic_memory.host.simulated.faults import Faults as HostFaults
from dynamic_memory.process.config import Bytes, Seconds

__all__ = [
    "HUGEPAGES",
    "ClusterConfig",
    "ControlConfig",
    "FaultConfig",
    "NodeConfig",
    "PoolConfig",
    "RoleMode",
    "node_names",
]

RoleMode = Literal["inline", "process", "none"]
PORT = 55441
UNIT = 128 << 20


class _Section(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A part of the file: unknown keys are refused."""


class NodeConfig(_Section, frozen=True, kw_only=True):
    """Nodes that are alike.

    Attributes:
        count: how many.
        name: of the node if it is one, else followed by a number from 1 on.
        cpus: processors of each.
        memory: of each NUMA node.
        hugepages: bytes that are set aside, by resource name (`hugepages-2Mi`).
        reserved: memory that pods do not get.
        pods: that it takes at most.
        labels: of the Node object; with `rbac`, those that a kubelet may set.
        fabric: the domain that it reaches; null for the first one, empty for none.
        window: fabric memory that it can map; default: all of its domain's.
        max_extents: that it can map.

    """

    count: int = 1
    name: str = "node"
    cpus: int = 8
    memory: tuple[Bytes, ...] = (Bytes(16 << 30),)
    hugepages: dict[str, Bytes] = {}
    reserved: Bytes = Bytes(0)
    pods: int = 110
    labels: dict[str, str] = {}
    fabric: str | None = None
    window: Bytes | None = None
    max_extents: int = 64


class PoolConfig(_Section, frozen=True, kw_only=True):
    """A fabric domain with one pool device.

    Attributes:
        name: the pool is `fabric/<name>`.
        size: bytes.
        device: name of the device.
        extent_size: what it hands out in.
        block_size: memory block of its hosts.
        latency_ns: attribute of the device.

    """

    name: str = "rack-a"
    size: Bytes = Bytes(64 << 30)
    device: str = "pool0"
    extent_size: Bytes = Bytes(UNIT)
    block_size: Bytes = Bytes(UNIT)
    latency_ns: int = 350


class FaultConfig(_Section, frozen=True, kw_only=True):
    """What goes wrong from the start on; docs/fabric.md and docs/host.md say what can.

    Attributes:
        fabric: of the fabric.
        hosts: of the kernel of a node, by its name.

    """

    fabric: FabricFaults | None = None
    hosts: dict[str, HostFaults] = {}


class ControlConfig(_Section, frozen=True, kw_only=True):
    """Times of scheduler and controllers.

    Attributes:
        initial_backoff: of a pod that did not fit.
        max_backoff: of a pod that did not fit.
        binding_timeout: how long devices may take to fulfil their conditions.
        flush_after: a pod that nothing has woken for so long is tried anyhow.
        node_grace: without a sign of life after which a node is given up.
        pod_quarantine: for which a node must be gone before its pods are deleted.

    """

    initial_backoff: Seconds = Seconds(1)
    max_backoff: Seconds = Seconds(10)
    binding_timeout: Seconds = Seconds(600)
    flush_after: Seconds = Seconds(300)
    node_grace: Seconds = Seconds(50)
    pod_quarantine: Seconds = Seconds(40)


class ClusterConfig(_Section, frozen=True, kw_only=True):
    """The whole file.

    Attributes:
        owner: name of this cluster at the service.
        nodes: groups of nodes.
        fabric: domains.
        latency: time that operations of the fabric take (`add`, `remove`, `read`).
        faults: what goes wrong.
        kubelet: times of the kubelets.
        control: times of scheduler and controllers.
        roles: how our roles run: `inline` in this process, `process` as processes of their own, `none` not at all.
        run_processes: containers are real processes.
        port: of the API server; 0 for any.
        keep: the API server's objects outlive the process.
        rbac: rights are checked: those of the manifests for our roles, those of nodes for kubelets; the kubeconfig has
            a token of an administrator.
        audit: who asked the API server for what is written to logs/audit.log.
        driver: additions to the configuration of every driver (docs/driver.md).
        updater: additions to the configuration of every updater (docs/updater.md).
        controller: additions to the configuration of the controller (docs/controller.md).
        service: additions to the configuration of the service (docs/fabric.md).

    """

    owner: str = "cluster"
    nodes: tuple[NodeConfig, ...] = (NodeConfig(count=2),)
    fabric: tuple[PoolConfig, ...] = (PoolConfig(),)
    latency: dict[Literal["add", "remove", "read"], Seconds] = {}
    faults: FaultConfig = FaultConfig()
    kubelet: Periods = Periods()
    control: ControlConfig = ControlConfig()
    roles: RoleMode = "inline"
    run_processes: bool = False
    port: int = PORT
    keep: bool = True
    rbac: bool = False
    audit: bool = False
    driver: dict[str, Any] = {}
    updater: dict[str, Any] = {}
    controller: dict[str, Any] = {}
    service: dict[str, Any] = {}

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            InvalidInput: with the field's path.

        """
        check(self)

    def domain_of(self, group: NodeConfig) -> PoolConfig | None:
        """Return the fabric domain that nodes of a group reach."""
        if group.fabric is None:
            return self.fabric[0] if self.fabric else None
        return next((pool for pool in self.fabric if pool.name == group.fabric), None)
