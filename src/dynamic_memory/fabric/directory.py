# SPDX-License-Identifier: Apache-2.0
"""Whose is what: the names of a cluster against the names of the fabric, by configuration. Pure.

Each host and each pool belongs to one owner. What the fabric has beyond that is nobody's: it is counted as taken, and
shown to nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from dynamic_memory.api.names import fabric_domain_of, fabric_pool
from dynamic_memory.errors import InvalidInput
from dynamic_memory.fabric.backends.interface import Allocation
from dynamic_memory.fabric.errors import Denied, UnknownDevice, UnknownNode
from dynamic_memory.fabric.model import Share

__all__ = ["Directory", "Owner"]


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A cluster: its hosts by the names of its nodes, and its pools."""

    name: str
    nodes: Mapping[str, str]
    pools: frozenset[str]


class Directory:
    """All owners.

    Raises:
        InvalidInput: two have the same name, host or pool, or a pool is not one of a fabric domain.

    """

    def __init__(self, owners: Iterable[Owner]) -> None:
        self._owners: dict[str, Owner] = {}
        self._node_of_host: dict[str, tuple[str, str]] = {}
        self._owner_of_pool: dict[str, str] = {}
        for owner in owners:
            where = f"owners[{owner.name}]"
            if owner.name in self._owners:
                raise InvalidInput(where, "a name that stands once")
            self._owners[owner.name] = owner
            for node, host in owner.nodes.items():
                if host in self._node_of_host:
                    raise InvalidInput(f"{where}.nodes[{node}]", "a host that no other node has", host)
                self._node_of_host[host] = (owner.name, node)
            for pool in owner.pools:
                if fabric_domain_of(pool) is None:
                    raise InvalidInput(f"{where}.pools", "the name of a fabric pool, fabric/<domain>", pool)
                if pool in self._owner_of_pool:
                    raise InvalidInput(f"{where}.pools", "a pool that no other owner has", pool)
                self._owner_of_pool[pool] = owner.name

    @property
    def owners(self) -> Iterable[Owner]:
        """All of them."""
        return self._owners.values()

    def owner(self, name: str) -> Owner:
        """An owner.

        Raises:
            Denied: this service does not serve it.

        """
        owner = self._owners.get(name)
        if owner is None:
            raise Denied(f"this service does not serve {name!r}")
        return owner

    def host(self, owner: str, node: str) -> str:
        """The fabric's name of a node.

        Raises:
            UnknownNode: the owner has no such node.

        """
        host = self.owner(owner).nodes.get(node)
        if host is None:
            raise UnknownNode(node)
        return host

    def domain(self, owner: str, pool: str, device: str) -> str:
        """Fabric domain of a pool of an owner.

        Raises:
            UnknownDevice: the owner has no such pool.

        """
        domain = fabric_domain_of(pool)
        if domain is None or pool not in self.owner(owner).pools:
            raise UnknownDevice(f"{pool}/{device}")
        return domain

    def node_of(self, host: str) -> tuple[str, str] | None:
        """Owner and node of a host; None if it is nobody's."""
        return self._node_of_host.get(host)

    def owner_of_domain(self, domain: str) -> str | None:
        """Owner of the pool of a fabric domain; None if it is nobody's."""
        return self._owner_of_pool.get(fabric_pool(domain))

    def share(self, allocation: Allocation, *, release_requested: bool) -> Share | None:
        """An allocation in the words of its owner; None if it is nobody's."""
        holder = self.node_of(allocation.host)
        if holder is None or holder[0] != self.owner_of_domain(allocation.domain):
            return None
        owner, node = holder
        return Share(
            tag=allocation.tag,
            owner=owner,
            node=node,
            pool=fabric_pool(allocation.domain),
            device=allocation.device,
            size=allocation.size,
            ranges=allocation.ranges,
            release_requested=release_requested,
        )
