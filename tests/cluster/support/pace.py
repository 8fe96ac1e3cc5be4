# SPDX-License-Identifier: Apache-2.0
"""How long scenarios let things last: a real scheduler and kubelet look every few seconds, an embedded one at once."""

from __future__ import annotations

import dataclasses

__all__ = ["EMBEDDED", "REAL", "Pace"]


@dataclasses.dataclass(frozen=True)
class Pace:
    """Times in seconds.

    Attributes:
        outage: the fabric is down for.
        slow: a slow fabric takes; more than one poll of the scheduler's PreBind.
        slower: an even slower one takes, while others act.
        hold: a window that failed is not offered for.
        quiet: nothing happens for, where nothing may.
        adding: memory is being added for, when the service is killed.
        call: deadline of a call of the kubelet, five more than the driver waits in it.

    """

    outage: float = 20.0
    slow: float = 7.0
    slower: float = 8.0
    hold: float = 3.0
    quiet: float = 6.0
    adding: float = 1.5
    call: float = 7.0


REAL = Pace()
EMBEDDED = Pace(outage=3.0, slow=1.5, slower=3.0, hold=0.8, quiet=3.0, adding=0.6, call=5.7)
