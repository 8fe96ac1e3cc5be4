# SPDX-License-Identifier: Apache-2.0
"""Everything that the driver of one node works with, made once and handed around."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dynamic_memory.driver.cache import Claims
from dynamic_memory.driver.cdi import Specs
from dynamic_memory.driver.config import Timing
from dynamic_memory.driver.grants import Grant, Mode
from dynamic_memory.driver.local_slices import LocalSlices
from dynamic_memory.driver.lock import LedgerLock
from dynamic_memory.driver.metadata import MetadataFiles
from dynamic_memory.driver.progress import Progress
from dynamic_memory.driver.records import Records
from dynamic_memory.driver.reports import Reporter
from dynamic_memory.driver.view import FabricView
from dynamic_memory.driver.windows import Windows
from dynamic_memory.fabric.interface import Fabric
from dynamic_memory.host.interface import Host
from dynamic_memory.kube.queue import WorkQueue
from dynamic_memory.process.locks import KeyedLocks

__all__ = ["Node"]


@dataclass(kw_only=True)
class Node:
    """The driver's parts.

    Attributes:
        name: of the Node object.
        boot_id: of the running kernel.
        active: whether this process holds the node's lock, and so attaches and detaches.
        holder: who holds the lock if this process does not.
        look_for_orphans: has memory that nobody knows looked for soon.
        names_of: namespace and name of claims that the kubelet spoke of, by UID.
        local: the node's own memory; None if this driver leaves it to others.
        calls: held while one claim is prepared, unprepared or handed on, by UID.
        ledger: held while what is taken of the node's own memory is added up and recorded, by whichever driver.
        metadata: files that describe devices inside containers; None if they are not wanted.
        unenforced: why containers cannot be held to a claim at present, by what it gives; empty if they can, or need
            not be.

    """

    name: str
    timing: Timing
    boot_id: str
    claims: Claims
    records: Records
    view: FabricView
    fabric: Fabric
    host: Host
    windows: Windows
    reporter: Reporter
    specs: Specs
    queue: WorkQueue
    ledger: LedgerLock
    progress: Progress = field(default_factory=Progress)
    active: bool = False
    holder: Callable[[], str] = str
    look_for_orphans: Callable[[], None] = lambda: None
    names_of: dict[str, tuple[str, str]] = field(default_factory=dict)
    local: LocalSlices | None = None
    metadata: MetadataFiles | None = None
    unenforced: Callable[[Sequence[Grant]], str] = lambda _given: ""
    calls: KeyedLocks = field(default_factory=KeyedLocks)

    @property
    def default_mode(self) -> Mode:
        """The mode of claims that do not choose."""
        return self.local.config.mode if self.local is not None else Mode.LIMIT

    @property
    def simulated(self) -> bool:
        """Whether host or fabric is simulated: everything that people read says so."""
        return self.host.simulated or bool(self.view.capacity and self.view.capacity.simulated)

    def told(self, message: str) -> str:
        """Return a sentence for people, marked if no hardware is behind it."""
        return f"{message} (simulated)" if self.simulated else message
