# SPDX-License-Identifier: Apache-2.0
"""How long the simulated kubelet waits for what. `REAL` is what a real one does; the defaults suit people who watch."""

import msgspec

from dynamic_memory.process.config import Seconds

__all__ = ["REAL", "Periods"]


class Periods(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Times, in seconds.

    Attributes:
        prepare: after a failed Prepare until the next (real: 60 to 90).
        unprepare: after a failed Unprepare until the next (real: 1, then 11 to 15).
        call: deadline of a call of a driver (real: 45).
        sync: between two looks at pods that wait for something, such as a deferred resize (real: 10).
        registry: between two looks at the folder of plugins (real: at once).
        registration: after a failed registration until the next; doubled up to two minutes (real: 0.5).
        wipe: after a driver is gone until its slices are deleted (real: 30).
        node_status: between two looks at the Node object (real: 10).
        lease: between two renewals of the node's lease (real: 10).
        back_off: before a container that ended is started again, doubled each time (real: 10).
        back_off_most: and at most (real: 300).
        start: that it takes to start a pod's containers.
        actuate: that it takes to resize a container.

    """

    prepare: Seconds = Seconds(2)
    unprepare: Seconds = Seconds(1)
    call: Seconds = Seconds(45)
    sync: Seconds = Seconds(2)
    registry: Seconds = Seconds(0.2)
    registration: Seconds = Seconds(0.5)
    wipe: Seconds = Seconds(30)
    node_status: Seconds = Seconds(2)
    lease: Seconds = Seconds(10)
    back_off: Seconds = Seconds(10)
    back_off_most: Seconds = Seconds(300)
    start: Seconds = Seconds(0)
    actuate: Seconds = Seconds(0)


REAL = Periods(
    prepare=Seconds(75),
    unprepare=Seconds(13),
    sync=Seconds(10),
    node_status=Seconds(10),
    start=Seconds(1),
    actuate=Seconds(1),
)
