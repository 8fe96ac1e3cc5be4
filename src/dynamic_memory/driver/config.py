# SPDX-License-Identifier: Apache-2.0
"""The driver's configuration file.

Only `owner`, `fabric` and `host` have to be there on a cluster that the manifests made; the node's name and the pod's
UID come from the environment (NODE_NAME, POD_UID, POD_NAME), every time and every folder has a default.
"""

import os
import socket
from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.driver.grants import Mode
from dynamic_memory.driver.reactions import Patience
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.config import HostConfig
from dynamic_memory.process.config import Bytes, Seconds

__all__ = ["DriverConfig", "FabricConfig", "LocalConfig", "NriConfig", "Timing"]


class FabricConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the Dynamic Memory Service is.

    Attributes:
        address: `host:port`, or `unix:/path`.
        tls: the folder for certificate and key, which the driver asks the cluster for; null for a service on the
            loopback without TLS (tests and laptops only).

    """

    address: str
    tls: str | None = "/var/run/dynamic-memory/tls"


class Timing(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How long things may take, and how often they are looked at.

    Attributes:
        resync: everything is compared again this often, whatever the watches said.
        call_margin: Prepare and Unprepare answer this long before the deadline of the kubelet's call.
        call_deadline: the deadline of a call that has none.
        undo: a failed attach is reported after this at the latest, undone or not.
        orphans: see `Patience`.
        arrival: see `Patience`.
        host_answer: see `Patience`.
        retry: a step that failed is tried again after this at the latest; the first tries follow more quickly.
        report_after: what is waited for is said in the claim when it has lasted this long.
        report_again: and again, if only the sentence changed, not more often than this.
        hold: a window that failed is offered again after this, if the fabric says that it is well; doubled up to
            `hold_most` by every further failure.
        hold_most: see `hold`.
        reboot: after a reboot the driver registers when all shares are attached again, or after this.

    """

    resync: Seconds = Seconds(60)
    call_margin: Seconds = Seconds(5)
    call_deadline: Seconds = Seconds(45)
    undo: Seconds = Seconds(60)
    orphans: Seconds = Seconds(30)
    arrival: Seconds = Seconds(60)
    host_answer: Seconds = Seconds(60)
    retry: Seconds = Seconds(10)
    report_after: Seconds = Seconds(1)
    report_again: Seconds = Seconds(30)
    hold: Seconds = Seconds(10)
    hold_most: Seconds = Seconds(300)
    reboot: Seconds = Seconds(120)

    def patience(self) -> Patience:
        """Return how long an attach waits for what."""
        return Patience(orphans=self.orphans, arrival=self.arrival, host=self.host_answer)


class LocalConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The node's own memory: NUMA nodes and huge pages.

    Attributes:
        root: folder in which `sys` and `proc` of the host are; default: that of a simulated host, else `/`.
        reserved: bytes of NUMA nodes, by number, that are not for claims (of the system, of pods without claims).
        rescan: how often the amounts are read again.
        mode: how memory is enforced where a claim does not say.
        node_allocatable: `auto` writes the KEP-5517 mapping where the cluster stores it; `off` never does.
        metadata: give containers the file that describes their devices (KEP-5304).
        preflight: `enforce` refuses claims that this node cannot hold containers to (see `enforcement`); `report` says
            so and gives them all the same; `off` does not look at the node.
        cgroup_root: where the host's cgroups are mounted.
        containerd_config: the host's configuration of containerd; it is looked at if it can be read.

    """

    root: Path | None = None
    reserved: dict[str, Bytes] = {}
    rescan: Seconds = Seconds(5)
    mode: Mode = Mode.LIMIT
    node_allocatable: Literal["auto", "off"] = "auto"
    metadata: bool = True
    preflight: Literal["enforce", "report", "off"] = "enforce"
    cgroup_root: str = "/sys/fs/cgroup"
    containerd_config: str = "/etc/containerd/config.toml"

    def __post_init__(self) -> None:
        """Refuse values that could only fail later.

        Raises:
            InvalidInput: with the field's path.

        """
        for node, size in self.reserved.items():
            if not node.isdecimal():
                raise InvalidInput(f"local.reserved.{node}", "the number of a NUMA node as key", node)
            if size < 0:
                raise InvalidInput(f"local.reserved.{node}", "a size of 0 or more", int(size))
        if self.rescan <= 0:
            raise InvalidInput("local.rescan", "more than 0 seconds", float(self.rescan))


class NriConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The container runtime, as far as it lets a plugin take part in starting containers (NRI).

    Attributes:
        socket: of the runtime.
        name: of the plugin, as the runtime's `required_plugins` has it.
        index: two digits; plugins are called in this order.
        cgroup_root: where the host's cgroups are mounted.

    """

    socket: Path = Path("/var/run/nri/nri.sock")
    name: str = "dra.memory"
    index: str = "10"
    cgroup_root: str = "/sys/fs/cgroup"


class DriverConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The driver of one node.

    Attributes:
        owner: name of this cluster at the service; not needed without a fabric.
        fabric: where the service is; null on a node that has no fabric.
        host: the Linux of this node, real or simulated.
        local: the node's own memory; null to leave it to others.
        nri: holds containers to their claims; null leaves them to what the claim's CDI file says, so that claims that
            need more are refused (`local.preflight`).
        node_name: name of the Node object; default: $NODE_NAME, else the host name.
        pod_uid: tells the sockets of two driver pods apart; default: $POD_UID; empty outside a pod.
        namespace: where the certificate authority of this cluster's roles is; default: $POD_NAMESPACE, else
            `dynamic-memory`.
        kubeconfig: path; default: the pod's service account.
        kubelet_root: the kubelet's `--root-dir`.
        plugin_dir: folder of the DRA socket; default: below kubelet_root.
        registry_dir: folder where the kubelet looks for plugins; default: below kubelet_root.
        cdi_dir: where the runtime looks for CDI files.
        state_dir: the driver's own records; must outlive a reboot.
        health: address of /healthz, /readyz and /metrics; null for none.
        workers: claims that are worked on at the same time.
        timing: how long things may take.

    """

    owner: str = ""
    fabric: FabricConfig | None = None
    host: HostConfig = HostConfig()
    local: LocalConfig | None = None
    nri: NriConfig | None = None
    node_name: str = ""
    pod_uid: str | None = None
    namespace: str = ""
    kubeconfig: str | None = None
    kubelet_root: str = "/var/lib/kubelet"
    plugin_dir: str | None = None
    registry_dir: str | None = None
    cdi_dir: str = "/var/run/cdi"
    state_dir: str = "/var/lib/dynamic-memory/driver"
    health: str | None = "127.0.0.1:8081"
    workers: int = 8
    timing: Timing = Timing()

    def __post_init__(self) -> None:
        """Refuse values that could only fail later.

        Raises:
            InvalidInput: with the field's path.

        """
        if self.fabric is None and self.local is None:
            raise InvalidInput("fabric", "a fabric, or local memory (local), or both")
        if self.fabric is not None and not self.owner:
            raise InvalidInput("owner", "the name of this cluster at the service", self.owner)
        if self.workers < 1:
            raise InvalidInput("workers", "at least 1", self.workers)
        if self.timing.retry <= 0:
            raise InvalidInput("timing.retry", "more than 0 seconds", float(self.timing.retry))
        if self.timing.call_margin >= self.timing.call_deadline:
            raise InvalidInput("timing.callMargin", "less than timing.callDeadline", float(self.timing.call_margin))
        for field, value in (
            ("kubeletRoot", self.kubelet_root),
            ("pluginDir", self.plugin_dir),
            ("registryDir", self.registry_dir),
            ("cdiDir", self.cdi_dir),
            ("stateDir", self.state_dir),
        ):
            if value is not None and not value.startswith("/"):
                raise InvalidInput(field, "an absolute path", value)

    @property
    def node(self) -> str:
        """Name of the Node object."""
        return self.node_name or os.environ.get("NODE_NAME", "") or socket.gethostname()

    @property
    def local_root(self) -> Path:
        """Folder in which `sys` and `proc` of the node's own memory are."""
        if self.local is not None and self.local.root is not None:
            return self.local.root
        return self.host.simulated.root if self.host.simulated is not None else Path("/")

    @property
    def one_machine(self) -> bool:
        """Whether the node's own memory is that of the simulated host: then its runtime is simulated, too."""
        simulated = self.host.simulated
        return simulated is not None and self.local is not None and self.local.root == simulated.root

    @property
    def ca_namespace(self) -> str:
        """Namespace of the certificate authority."""
        return self.namespace or os.environ.get("POD_NAMESPACE", "") or "dynamic-memory"

    @property
    def instance(self) -> str:
        """What tells this driver pod from another one on the node; empty outside a pod."""
        return os.environ.get("POD_UID", "") if self.pod_uid is None else self.pod_uid

    @property
    def identity(self) -> str:
        """Who holds the node's lock, for people."""
        return os.environ.get("POD_NAME", "") or f"process {os.getpid()}"

    @property
    def plugin_folder(self) -> Path:
        """Folder of the DRA socket."""
        return Path(self.plugin_dir or f"{self.kubelet_root}/plugins/dra.memory")

    @property
    def registry_folder(self) -> Path:
        """Folder of the registration socket."""
        return Path(self.registry_dir or f"{self.kubelet_root}/plugins_registry")
