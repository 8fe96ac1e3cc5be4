# SPDX-License-Identifier: Apache-2.0
"""What this node can hold containers to, and which claims it therefore gives.

A claim needs something of the node for what it asks:

    fabric memory                       nothing
    fabric memory as a file system      devices
    ordinary memory, mode `advise`      devices
    ordinary memory as a file system    devices; the kernel keeps it to its size and nodes
    ordinary memory otherwise           devices, limits
    huge pages, mode `advise`           devices, limits; the kubelet gives a pod none, the plugin raises that
    huge pages otherwise                devices, limits, huge pages

Where the node lacks it (a gap) the claim is refused with the sentence that says why and how to mend it, and all others
are given: the driver never stands still because of a node's runtime. While the connection to a runtime that has NRI is
lost, for a minute at most, all claims wait: what starts in between would start without its placement. A driver that
does not lead goes by the connection of the one that does.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from prometheus_client import Gauge

from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.driver.grants import Grant, Mode
from dynamic_memory.driver.local_devices import LocalDevice
from dynamic_memory.driver.nri_link import Link, NriLink
from dynamic_memory.host.node_facts import read_facts
from dynamic_memory.host.preflight import Check, Finding, Verdict, findings
from dynamic_memory.process.readiness import Readiness

__all__ = ["Enforcement", "Need", "gaps_of", "needs_of"]

log = logging.getLogger(__name__)

UNENFORCED = Gauge(
    "dynamic_memory_driver_unenforced", "1 for what this node lacks to hold containers to their claims.", ["what"]
)
CONTAINERD = "containerd"
ADVISE = "; a claim of mode `advise` is given without"
TURN_ON = "turn NRI on (containerd: `dynamic-memory setup-runtime`) and restart the runtime"
LOOK = "NRI does not work with this runtime: see the logs of driver and runtime"
NO_NRI = (
    "the driver's configuration (driver.yaml, ConfigMap `driver` in deploy/40-config.yaml) has no `nri`: add the line "
    "`nri: {}`"
)


class Need(enum.StrEnum):
    """What a claim needs of the node."""

    DEVICES = "devices"
    """Containers get the claim's CDI device."""
    LIMITS = "limits"
    """Containers are placed, limited, and refused if the claim is not theirs."""
    HUGEPAGES = "hugepages"
    """Limits of huge pages reach the containers."""


def needs_of(grants: Sequence[Grant]) -> dict[Need, Grant]:
    """Return what a claim needs of the node, and the first grant that does."""
    found: dict[Need, Grant] = {}
    for grant in grants:
        if grant.far:
            if grant.path:
                found.setdefault(Need.DEVICES, grant)
            continue
        advised = grant.mode is Mode.ADVISE
        by_kernel = bool(grant.path) and not grant.page and grant.mode is Mode.LIMIT
        found.setdefault(Need.DEVICES, grant)
        if grant.page or not (advised or by_kernel):
            found.setdefault(Need.LIMITS, grant)
        if grant.page and not advised:
            found.setdefault(Need.HUGEPAGES, grant)
    return found


def gaps_of(found: Sequence[Finding], link: Link, *, real: bool = True) -> dict[Need, str]:
    """Return what the node lacks for good, with a sentence each that says how to mend it.

    Args:
        found: of the preflight.
        link: the connection to the runtime.
        real: the machine has a runtime, so that a configuration without `nri` is a gap.

    """
    bad = {finding.check: finding for finding in found if finding.verdict is not Verdict.PASS}
    gaps: dict[Need, list[str]] = {}
    for check in (Check.CGROUPS, Check.CONTROLLERS, Check.TOPOLOGY):
        finding = bad.get(check)
        if finding is not None and (finding.verdict is Verdict.REFUSED or finding.missing):
            need = Need.HUGEPAGES if finding.missing == ("hugetlb",) else Need.LIMITS
            gaps.setdefault(need, []).append(finding.text)
    # of a runtime that says that it is another one containerd's file tells nothing
    if link.runtime in {"", CONTAINERD}:
        cdi, hugetlb = bad.get(Check.RUNTIME_CDI), bad.get(Check.RUNTIME_HUGETLB)
        if cdi is not None:
            gaps.setdefault(Need.DEVICES, []).append(cdi.text)
        # a file that cannot be read may say anything, and the default of containerd is bad, which a runtime without a
        # name may be
        there = link.wanted and not link.lost and not link.absent
        if hugetlb is not None and (hugetlb.verdict is Verdict.REFUSED or there):
            gaps.setdefault(Need.HUGEPAGES, []).append(hugetlb.text)
    if link.absent:
        nri = bad.get(Check.RUNTIME_NRI)
        mend = (nri.text if nri is not None else TURN_ON) if link.off else LOOK
        gaps.setdefault(Need.LIMITS, []).append(f"{link.absent}; {mend}")
    if real and not link.wanted:
        gaps.setdefault(Need.LIMITS, []).append(NO_NRI)
    return {need: "; ".join(gaps[need]) for need in Need if need in gaps}


class Enforcement:
    """What this node holds containers to, at the moment.

    Args:
        config: of the driver.
        link: the connection to the runtime; None if the configuration has no `nri`.
        ready: where it is reported, as `enforcement`.
        real: the node's own memory is that of a machine with a runtime, not of files alone.

    """

    def __init__(self, config: DriverConfig, link: NriLink | None, ready: Readiness, *, real: bool) -> None:
        self._config = config
        self._local = config.local
        self._link = link
        self._ready = ready
        self._real = real
        self._found: list[Finding] = []
        self._told: tuple[Mapping[Need, str], bool] | None = None
        self._news = asyncio.Event()
        self.changed: Callable[[], None] = lambda: None
        """Called when something else is held than before."""

    def look(self) -> None:
        """Look at the node, and say in the log what is degraded. Blocks for a few files.

        To be done at the start, and when a runtime has connected: it has read its configuration then, and not since.
        """
        if self._local is None or not self._real or self._local.preflight == "off":
            return
        facts = read_facts(
            self._config.local_root,
            cgroup_root=self._local.cgroup_root,
            containerd=Path(self._local.containerd_config),
        )
        found = findings(facts)
        for finding in found if found != self._found else ():
            level = logging.INFO if finding.verdict is Verdict.PASS else logging.WARNING
            log.log(level, "preflight: %s", finding)
        self._found = found

    def why_not(self, given: Sequence[Grant]) -> str:
        """Return why containers cannot be held to a claim with these grants; empty if they can."""
        lost = self._connection().lost
        if lost or self._local is None or self._local.preflight != "enforce":
            return lost
        gaps = self.gaps()
        for need, grant in needs_of(given).items():
            if need in gaps:
                helps = need is Need.HUGEPAGES or (need is Need.LIMITS and not grant.page)
                why = f"request {grant.request}: this node has no {need} for it: {gaps[need]}"
                return why + (ADVISE if helps else "")
        return ""

    def gaps(self) -> dict[Need, str]:
        """Return what the node lacks for good."""
        if self._local is None or self._local.preflight == "off":
            return {}
        return gaps_of(self._found, self._connection(), real=self._real)

    def holds(self, device: LocalDevice) -> bool:
        """Tell whether containers are held to claims of a device; not before that is known."""
        if self._is_unknown():
            return False
        gaps = self.gaps()
        return not gaps.keys() & ({Need.LIMITS, Need.HUGEPAGES} if device.page else {Need.LIMITS})

    def tell(self) -> None:
        """Say what has changed: in /readyz, in the log, as a metric, and to `changed`."""
        self._news.set()
        gaps, unknown = self.gaps(), self._is_unknown()
        if self._local is None or (gaps, unknown) == self._told:
            return
        self._told = gaps, unknown
        for need in Need:
            UNENFORCED.labels(need.value).set(1 if need in gaps else 0)
        self._ready.set("enforcement", True, degraded="; ".join(f"no {need}: {why}" for need, why in gaps.items()))
        self.changed()

    async def settled(self) -> None:
        """Wait until it is known what containers are held to: a slice that says too much attracts claims."""
        while self._is_unknown():
            self._news.clear()
            await self._news.wait()

    def _is_unknown(self) -> bool:
        looks = self._local is not None and self._local.preflight != "off"
        return looks and self._link is not None and self._link.unknown

    def _connection(self) -> Link:
        return Link(wanted=False) if self._link is None else self._link.state()
