# SPDX-License-Identifier: Apache-2.0
"""What a decision about a pod consists of: an outcome for each node, and what to write for each claim."""

from __future__ import annotations

from typing import Any, NamedTuple

from dynamic_memory.allocation.prototype.pods import ClaimUse
from dynamic_memory.allocation.prototype.world import Key

__all__ = ["ClaimOutcome", "Decision", "NodeOutcome"]


class NodeOutcome(NamedTuple):
    """What came of the pod on one node.

    Attributes:
        node: its name.
        score: 0 to 100; 0 is "does not fit".
        failed: the claims that could not be satisfied.
        reason: why not.
        options: what was tried, in words; empty unless asked for.
        counting: the result document of v1; None if there are no claims of it.

    """

    node: str
    score: int
    failed: tuple[str, ...] = ()
    reason: str = ""
    options: tuple[str, ...] = ()
    counting: dict[str, Any] | None = None

    @property
    def summary(self) -> str:
        """One line."""
        if self.score:
            return f"{self.node}: satisfied all claims with score {self.score}"
        if not self.failed:
            return f"{self.node}: {self.reason}"
        return f"{self.node}: could not satisfy these claims: {', '.join(self.failed)}"


class ClaimOutcome(NamedTuple):
    """What is to be written for one claim; `status` is whole, `changed` tells whether it differs from what is there."""

    use: ClaimUse
    status: dict[str, Any]
    changed: bool

    @property
    def name(self) -> str:
        """The name of the claim."""
        return self.use.claim.metadata.name


class Decision(NamedTuple):
    """The answer for one pod.

    Attributes:
        pod: namespace and name.
        node: where it goes; None if nowhere.
        pending: what it waits for, though devices would be there.
        nodes: what came of each node.
        claims: what to write, in the order of the pod's claims.
        bound: the pod is on its node already.

    """

    pod: Key
    node: str | None
    pending: str
    nodes: list[NodeOutcome]
    claims: list[ClaimOutcome]
    bound: bool = False
