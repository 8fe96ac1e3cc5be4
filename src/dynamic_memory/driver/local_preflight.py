# SPDX-License-Identifier: Apache-2.0
"""The look at a node before its own memory is offered: what would not be enforced there is said, or refused."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from dynamic_memory.driver.config import LocalConfig
from dynamic_memory.errors import NeverError
from dynamic_memory.host.node_facts import read_facts
from dynamic_memory.host.preflight import Finding, Verdict, findings

__all__ = ["NotFit", "check_node"]

log = logging.getLogger(__name__)


class NotFit(NeverError):
    """The node's own memory cannot be offered: limits would not be there.

    Args:
        found: the findings that refuse it.

    """

    def __init__(self, found: Sequence[Finding]) -> None:
        self.found = tuple(found)
        super().__init__(*found)

    def __str__(self) -> str:
        return "this node is not fit for claims of its own memory (local.preflight): " + "; ".join(
            finding.text for finding in self.found
        )


def check_node(config: LocalConfig, root: Path) -> None:
    """Look at the node, say in the log what is degraded, and refuse what must not be. Blocks for a few files.

    Raises:
        NotFit: limits would not be there, and the configuration does not say to go on all the same.

    """
    if config.preflight == "off":
        return
    found = findings(read_facts(root, cgroup_root=config.cgroup_root, containerd=Path(config.containerd_config)))
    for finding in found:
        level = logging.INFO if finding.verdict is Verdict.PASS else logging.WARNING
        log.log(level, "preflight: %s", finding)
    refused = [finding for finding in found if finding.verdict is Verdict.REFUSED]
    if refused and config.preflight == "enforce":
        raise NotFit(refused)
