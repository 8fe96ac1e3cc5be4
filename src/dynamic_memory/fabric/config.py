# SPDX-License-Identifier: Apache-2.0
"""Configuration of the Dynamic Memory Service. Everything that can be wrong in it is found when it is read.

An example of the whole file is in docs/fabric.md.
"""

from __future__ import annotations

import ipaddress
import math
from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.api.names import fabric_domain_of
from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric import identity
from dynamic_memory.fabric.backends.faults import Operation
from dynamic_memory.fabric.backends.interface import Backend, Device, Host
from dynamic_memory.fabric.backends.simulated import Simulated
from dynamic_memory.fabric.directory import Directory, Owner
from dynamic_memory.fabric.model import MAX_SIZE, Attribute
from dynamic_memory.fabric.service import Limits
from dynamic_memory.fabric.tls import TlsFiles
from dynamic_memory.process.config import Bytes, Seconds

__all__ = [
    "BackendConfig",
    "OwnerConfig",
    "ServiceConfig",
    "SimulatedConfig",
    "SimulatedDevice",
    "SimulatedDomain",
    "SimulatedHost",
]

_DEVICE = 63


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A part of the file: unknown keys are refused."""


class OwnerConfig(_Section, frozen=True, kw_only=True):
    """A cluster that is served.

    Attributes:
        name: as its certificates say it.
        ca: certificates of the authorities that sign for it; those of the service's `tls.ca` if not given.
        nodes: the fabric's name of a host, by the cluster's name of the node.
        pools: its pools, `fabric/<domain>`.

    """

    name: str
    nodes: dict[str, str]
    pools: list[str]
    ca: str | None = None

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        for node in self.nodes:
            _check_name("nodes", node)


class SimulatedDevice(_Section, frozen=True, kw_only=True):
    """A pool device that is not there: its size is a multiple of the unit of the domain."""

    name: str
    size: Bytes
    attributes: dict[str, Attribute] = {}

    def __post_init__(self) -> None:
        _check_device("name", self.name)


class SimulatedHost(_Section, frozen=True, kw_only=True):
    """A host as the fabric sees it: how much, in how many extents, it can map through which window device."""

    name: str
    window: Bytes
    max_extents: int
    device: str = "port0"

    def __post_init__(self) -> None:
        _check_device("device", self.device)
        if self.max_extents < 1:
            raise ValueError("expected at least one extent in maxExtents")


class SimulatedDomain(_Section, frozen=True, kw_only=True):
    """Pool devices and the hosts that reach them.

    Attributes:
        name: the pool is `fabric/<name>`.
        extent_size: what the devices hand out in, bytes.
        block_size: memory block of the hosts, bytes; the unit is the least common multiple of both.
        devices: pool devices.
        hosts: hosts.

    """

    name: str
    devices: list[SimulatedDevice]
    hosts: list[SimulatedHost]
    extent_size: Bytes = Bytes(256 << 20)
    block_size: Bytes = Bytes(128 << 20)

    def __post_init__(self) -> None:
        _check_name("name", self.name)
        for field, value in (("extentSize", self.extent_size), ("blockSize", self.block_size)):
            if not 0 < value <= MAX_SIZE:
                raise ValueError(f"expected a positive size in {field}")
        sizes = [(f"size of {device.name}", device.size) for device in self.devices]
        sizes += [(f"window of {host.name}", host.window) for host in self.hosts]
        for what, size in sizes:
            if size % self.unit or not 0 < size <= MAX_SIZE:
                raise ValueError(f"expected the {what} to be a positive multiple of the unit of {self.unit} bytes")
        _check_once("devices", [device.name for device in self.devices])

    @property
    def unit(self) -> int:
        """Every share is a multiple of this, bytes."""
        return math.lcm(self.extent_size, self.block_size)


class SimulatedConfig(_Section, frozen=True, kw_only=True):
    """A fabric without hardware; its file of faults is `faults.json` in the directory of the state file."""

    state: str
    domains: list[SimulatedDomain]
    latency: dict[Literal["add", "remove", "read"], Seconds] = {}

    def __post_init__(self) -> None:
        _check_once("domains", [domain.name for domain in self.domains])
        _check_once("hosts of all domains", [host.name for domain in self.domains for host in domain.hosts])

    def open(self) -> Simulated:
        """The backend, not open yet."""
        latency: dict[Operation, float] = dict(self.latency.items())
        return Simulated.at(Path(self.state), self.devices(), self.hosts(), latency)

    def devices(self) -> list[Device]:
        """All pool devices."""
        return [
            Device(
                domain=domain.name,
                name=device.name,
                total=int(device.size),
                unit=domain.unit,
                attributes=device.attributes,
            )
            for domain in self.domains
            for device in domain.devices
        ]

    def hosts(self) -> list[Host]:
        """All hosts."""
        return [
            Host(
                domain=domain.name,
                name=host.name,
                device=host.device,
                window=int(host.window),
                max_extents=host.max_extents,
            )
            for domain in self.domains
            for host in domain.hosts
        ]


class BackendConfig(_Section, frozen=True, kw_only=True):
    """The fabric: exactly one kind."""

    simulated: SimulatedConfig

    def open(self) -> Backend:
        """The backend, not open yet."""
        return self.simulated.open()


class ServiceConfig(_Section, frozen=True, kw_only=True):
    """The whole file.

    Attributes:
        listen: `host:port` or `unix:/path`.
        tls: certificate files; null only on loopback or a unix socket, where callers then say who they are.
        owners: the clusters that are served.
        backend: the fabric.
        session_lapse: time without a Watch after which a node's session has lapsed.
        limits: bounds.
        health: address of the health and metrics endpoints; null for none.

    """

    listen: str
    tls: TlsFiles | None
    owners: list[OwnerConfig]
    backend: BackendConfig
    session_lapse: Seconds = Seconds(60.0)
    limits: Limits = Limits()
    health: str | None = "127.0.0.1:8081"

    def __post_init__(self) -> None:
        if self.tls is None and not _is_local(self.listen):
            raise ValueError("expected tls, or an address on loopback or a unix socket to listen on")
        if self.session_lapse <= 0:
            raise ValueError("expected a positive sessionLapse")
        try:
            self.directory()
        except InvalidInput as error:
            raise ValueError(str(error)) from error
        domain_of_host = {host.name: host.domain for host in self.backend.simulated.hosts()}
        domains = {domain.name for domain in self.backend.simulated.domains}
        for owner in self.owners:
            for pool in owner.pools:
                if fabric_domain_of(pool) not in domains:
                    raise ValueError(f"expected the pools of {owner.name} to be those of domains, got {pool!r}")
            for node, host in owner.nodes.items():
                if host not in domain_of_host:
                    raise ValueError(f"expected a host of the backend for node {node} of {owner.name}, got {host!r}")

    def directory(self) -> Directory:
        """Whose is what.

        Raises:
            InvalidInput: two owners have the same name, host or pool.

        """
        return Directory(
            Owner(name=owner.name, nodes=dict(owner.nodes), pools=frozenset(owner.pools)) for owner in self.owners
        )

    def authorities(self) -> dict[str, str]:
        """File of the authorities that sign for an owner, by owner; empty without TLS."""
        return {} if self.tls is None else {owner.name: owner.ca or self.tls.ca for owner in self.owners}


def _is_local(address: str) -> bool:
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_name(field: str, name: str) -> None:
    if not identity.is_name(name):
        raise ValueError(f"expected a DNS subdomain in {field}, got {name!r}")


def _check_device(field: str, name: str) -> None:
    # The rule of Kubernetes for names of devices: a DNS label.
    if not identity.is_name(name) or "." in name or len(name) > _DEVICE:
        raise ValueError(f"expected a DNS label in {field}, got {name!r}")


def _check_once(field: str, names: list[str]) -> None:
    again = {name for name in names if names.count(name) > 1}
    if again:
        raise ValueError(f"expected names that stand once in {field}, got {sorted(again)} again")
