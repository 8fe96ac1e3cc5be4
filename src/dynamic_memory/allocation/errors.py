# SPDX-License-Identifier: Apache-2.0
"""What can end an allocation without a result.

"It does not fit" is no error but an answer. An error is either *fatal*: the claim or a device is such that no node
could be asked in good faith, and the scheduler gives up on the pod; or it belongs to *one node*, and other nodes may
do. The two kinds are two branches of this tree, and the scope in the JSON protocol is read off the class.
"""

from __future__ import annotations

from dynamic_memory.errors import NeverError, NotHereError

__all__ = [
    "CapacityUnusable",
    "FatalAllocationError",
    "InvalidNodeSelector",
    "InvalidPools",
    "InvalidRequest",
    "NodeAllocationError",
    "PoolUnusable",
    "SelectorFailed",
    "TooManyDevices",
    "UnsatisfiableConstraint",
]


class FatalAllocationError(NeverError):
    """The pod cannot be scheduled at all while claim, class or slice are as they are."""


class NodeAllocationError(NotHereError):
    """Allocation failed on this node for a reason that other nodes need not share."""


class InvalidRequest(FatalAllocationError):
    """A claim that cannot be handled.

    Args:
        claim: namespace/name of the claim.
        where: which request, sub-request or constraint of it.
        problem: what is wrong, as half a sentence.

    """

    def __init__(self, claim: str, where: str, problem: str) -> None:
        self.claim = claim
        self.where = where
        self.problem = problem
        super().__init__(claim, where, problem)

    def __str__(self) -> str:
        return f"claim {self.claim}, {self.where}: {self.problem}"


class SelectorFailed(FatalAllocationError):
    """A CEL expression that does not compile, or fails on a device.

    Args:
        owner: whose expression it is ("class dra.memory", "claim default/a").
        index: position among the selectors of the owner.
        device: the device (driver/pool/name), or None if the expression does not compile.
        problem: what CEL says.

    """

    def __init__(self, owner: str, index: int, device: str | None, problem: str) -> None:
        self.owner = owner
        self.index = index
        self.device = device
        self.problem = problem
        super().__init__(owner, index, device, problem)

    def __str__(self) -> str:
        if self.device is None:
            return f"{self.owner}: selector #{self.index}: CEL compile error: {self.problem}"
        return f"{self.owner}: selector #{self.index} on device {self.device}: CEL runtime error: {self.problem}"


class CapacityUnusable(FatalAllocationError):
    """A capacity that cannot be computed with: beyond 64 bits, negative, or a policy that makes no sense.

    Args:
        name: the capacity.
        problem: what is wrong with it.
        device: the device it was asked of (driver/pool/name), if known.

    """

    def __init__(self, name: str, problem: str, device: str | None = None) -> None:
        self.name = name
        self.problem = problem
        self.device = device
        super().__init__(name, problem, device)

    def of_device(self, device: str) -> CapacityUnusable:
        """Return the error with the device that it came up for."""
        return CapacityUnusable(self.name, self.problem, device)

    def __str__(self) -> str:
        where = f" of device {self.device}" if self.device else ""
        return f'capacity "{self.name}"{where}: {self.problem}'


class PoolUnusable(FatalAllocationError):
    """A request for all devices met a pool of which not everything is known.

    Args:
        claim: namespace/name of the claim.
        request: name of the request.
        pool: driver/name of the pool.
        problem: why: "currently being updated" or "invalid".

    """

    def __init__(self, claim: str, request: str, pool: str, problem: str) -> None:
        self.claim = claim
        self.request = request
        self.pool = pool
        self.problem = problem
        super().__init__(claim, request, pool, problem)

    def __str__(self) -> str:
        return (
            f"claim {self.claim}, request {self.request}: asks for all devices, but resource pool {self.pool} is "
            f"{self.problem}"
        )


class TooManyDevices(FatalAllocationError):
    """More devices than the result of a claim can hold.

    Args:
        claim: namespace/name of the claim.
        count: how many it needs at least.
        limit: how many fit.

    """

    def __init__(self, claim: str, count: int, limit: int) -> None:
        self.claim = claim
        self.count = count
        self.limit = limit
        super().__init__(claim, count, limit)

    def __str__(self) -> str:
        return f"claim {self.claim}: needs {self.count} devices, but a claim holds at most {self.limit}"


class UnsatisfiableConstraint(FatalAllocationError):
    """A request for all devices contradicts a constraint of its claim.

    Args:
        claim: namespace/name of the claim.
        request: name of the request.
        device: the device that cannot join (driver/pool/name).

    """

    def __init__(self, claim: str, request: str, device: str) -> None:
        self.claim = claim
        self.request = request
        self.device = device
        super().__init__(claim, request, device)

    def __str__(self) -> str:
        return (
            f"claim {self.claim}, request {self.request}: asks for all devices, but with device {self.device} a "
            f"constraint of the claim does not hold"
        )


class InvalidNodeSelector(FatalAllocationError):
    """A node selector that no API server would have let through.

    Args:
        where: the slice or device that carries it.
        problem: what is wrong.

    """

    def __init__(self, where: str, problem: str) -> None:
        self.where = where
        self.problem = problem
        super().__init__(where, problem)

    def __str__(self) -> str:
        return f"node selector of {self.where}: {self.problem}"


class InvalidPools(NodeAllocationError):
    """Nothing fits on the node, and pools of it are invalid.

    Args:
        pools: the invalid pools (driver/name) with the reason of each.

    """

    def __init__(self, pools: dict[str, str]) -> None:
        self.pools = pools
        super().__init__(pools)

    def __str__(self) -> str:
        shown = "; ".join(f"{pool}: {reason}" for pool, reason in self.pools.items())
        return f"nothing fits, and resource pools are invalid: {shown}"
