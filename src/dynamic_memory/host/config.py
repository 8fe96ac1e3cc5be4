# SPDX-License-Identifier: Apache-2.0
"""Which host a role works on: the part `host` of its configuration file, and what that opens."""

from pathlib import Path
from typing import Literal

import msgspec

from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.interface import Host
from dynamic_memory.process.config import Bytes, Seconds
from dynamic_memory.quantity import parse_bytes

__all__ = ["HostConfig", "SimulatedHostConfig", "open_host"]

MIN_BLOCK = 128 << 20
MAX_NODES = 64


class SimulatedHostConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A kernel made of files. All but `root` counts only for the one who makes the tree, which is who comes first.

    Attributes:
        root: folder of the tree; made if absent.
        nodes: bytes of each NUMA node's own memory.
        block_size: bytes of a memory block.
        window: bytes of addresses that fabric memory may have.
        auto_online: what the kernel does with new blocks.
        hugepages: bytes that are set aside as huge pages, by the size of a page (`2Mi`, `1Gi`); spread over the nodes
            as the kernel does at boot.

    """

    root: Path
    nodes: tuple[Bytes, ...] = (Bytes(16 << 30),)
    block_size: Bytes = Bytes(MIN_BLOCK)
    window: Bytes = Bytes(1 << 40)
    auto_online: Literal["offline", "online", "online_kernel", "online_movable"] = "offline"
    hugepages: dict[Literal["2Mi", "1Gi"], Bytes] = {}

    def __post_init__(self) -> None:
        """Refuse what no kernel has.

        Raises:
            InvalidInput: with the field's path.

        """
        size = self.block_size
        if size < MIN_BLOCK or size & (size - 1):
            raise InvalidInput("host.simulated.blockSize", "a power of two of at least 128Mi", int(size))
        if not 1 <= len(self.nodes) <= MAX_NODES:
            raise InvalidInput("host.simulated.nodes", f"1 to {MAX_NODES} sizes", len(self.nodes))
        for number, node in enumerate(self.nodes):
            if node <= 0 or node % size:
                raise InvalidInput(f"host.simulated.nodes[{number}]", f"a multiple of {int(size)} bytes", int(node))
        for page, amount in self.hugepages.items():
            if amount < 0 or amount % parse_bytes(page):
                raise InvalidInput(f"host.simulated.hugepages.{page}", f"a multiple of {page}", int(amount))
        if sum(self.hugepages.values()) > sum(self.nodes):
            raise InvalidInput(
                "host.simulated.hugepages", "no more than the memory of all nodes", int(sum(self.hugepages.values()))
            )
        if self.window <= 0 or self.window % size:
            raise InvalidInput("host.simulated.window", f"a multiple of {int(size)} bytes", int(self.window))


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """The Linux of this node.

    Attributes:
        simulated: a kernel made of files; without it the real one is meant, which has no fabric memory yet.
        root: folder in which `sys` and `proc` of the real one are.
        deadline: seconds that one operation may take before it is ended.

    """

    simulated: SimulatedHostConfig | None = None
    root: Path = Path("/")
    deadline: Seconds = Seconds(60)


def open_host(config: HostConfig, *, fabric: bool = True) -> Host:
    """Return the host that the configuration names; a simulated one is made if it is not there yet.

    Args:
        config: which one.
        fabric: it has to be able to have fabric memory.

    Raises:
        InvalidInput: the configuration asks for fabric memory on a real host, which is not supported yet.

    """
    if config.simulated is None and fabric:
        raise InvalidInput("host.simulated", "the root folder of a simulated host: a real one is not supported yet")
    if config.simulated is None:
        from dynamic_memory.host.plain import PlainHost  # noqa: PLC0415 - one of the two is needed

        return PlainHost(config.root)
    if config.deadline <= 0:
        raise InvalidInput("host.deadline", "more than 0 seconds", float(config.deadline))
    from dynamic_memory.host.simulated.host import SimulatedHost  # noqa: PLC0415 - not part of what a real host carries

    return SimulatedHost(config.simulated, deadline=config.deadline)
