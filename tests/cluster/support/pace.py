# SPDX-License-Identifier: Apache-2.0
"""How long scenarios let things last: a real scheduler and kubelet look every few seconds, an embedded one at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

__all__ = ["EMBEDDED", "REAL", "Pace"]


@dataclasses.dataclass(frozen=True)
class Pace:
    """Times in seconds.

    Attributes:
        outage: the fabric is down for.
        slow: a slow fabric takes; more than one poll of the scheduler's PreBind.
        slower: an even slower one takes, while others act: a scheduler is started again, and schedules.
        hold: a window that failed is not offered for.
        quiet: nothing happens for, where nothing may.
        held: shares are looked at that nobody may release; several rounds of a patient controller.
        look: the same, where less can happen.
        adding: memory is being added for, when something happens.
        call: deadline of a call of the kubelet, one `margin` and a little more than the driver waits in it.
        moment: until all that goes on has been done.
        orphans: a patient controller looks for memory of nobody this often, and believes it after this.
        lapse: without a Watch after which the session of a node has lapsed.
        waiting: a pod waits for a driver that is not there, before it is told.
        story: stories that are told together are looked at this often.
        timing: of the drivers, where it is not the usual one.
        kubelet: of `Patience`, what is not the usual; looks at its folder of plugins (`poll`) are cheap there.

    """

    outage: float = 20.0
    slow: float = 7.0
    slower: float = 20.0
    hold: float = 5.0
    quiet: float = 6.0
    held: float = 3.0
    look: float = 2.0
    adding: float = 2.0
    call: float = 7.0
    moment: float = 1.0
    orphans: float = 1.0
    lapse: float = 2.0
    waiting: float = 3.0
    story: float = 0.1
    timing: Mapping[str, float] = dataclasses.field(default_factory=dict)
    kubelet: Mapping[str, float] = dataclasses.field(default_factory=dict)


REAL = Pace()
EMBEDDED = Pace(
    outage=1.0,
    slow=0.7,
    slower=1.2,
    hold=0.3,
    quiet=0.6,
    held=0.3,
    look=0.225,
    adding=0.5,
    call=0.8,
    moment=0.2,
    orphans=0.075,
    lapse=0.3,
    waiting=0.3,
    story=0.02,
    timing={"callMargin": 0.4, "retry": 0.2, "reportAfter": 0.2},
    kubelet={"prepare": 0.4, "unprepare": 0.2, "poll": 0.1},
)
