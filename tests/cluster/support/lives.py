# SPDX-License-Identifier: Apache-2.0
"""Several stories of one cluster told at the same time, in one thread: most of each is waiting for the scheduler.

A story is a generator that yields what it waits for and is given the answer. One thread is enough for all, and is
needed: children may only be started in the main thread.

    def story():
        world.pod("a", namespace, "1Gi")
        claim = yield Until(lambda: world.claim_of("a", namespace), 10, "it has a claim")

    failures = together({"a": story()})
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.cluster.support.processes import NotInTime, patient

__all__ = ["Story", "Until", "together"]

EVERY = 0.1


@dataclass(frozen=True)
class Until:
    """Wait until `check` is true; like `processes.eventually`, it may fail as long as it is not."""

    check: Callable[[], Any]
    seconds: float
    what: str


Story = Generator[Until, Any, None]


@dataclass
class _Told:
    """One story, and what it waits for."""

    story: Story
    wait: Until | None = None
    began: float = 0.0
    state: object = None
    failure: str = field(default="")

    def go(self, answer: object = None, error: Exception | None = None) -> bool:
        """Tell it on until it waits; False at its end."""
        try:
            self.wait = self.story.throw(error) if error else self.story.send(answer)
        except StopIteration:
            return False
        except Exception:  # noqa: BLE001 - what is wrong with one story is kept, and the others go on
            self.failure = traceback.format_exc(limit=-4)
            return False
        self.began = time.monotonic()
        return True

    def look(self) -> bool:
        """See whether what it waits for is true; False at its end."""
        assert self.wait is not None
        try:
            if answer := self.wait.check():
                return self.go(answer)
            self.state = answer
        except (AssertionError, LookupError, OSError) as error:
            self.state = error
        seconds = patient(self.wait.seconds)
        if time.monotonic() - self.began > seconds:
            return self.go(error=NotInTime(f"not within {seconds:g} s: {self.wait.what}; last: {self.state!r}"))
        return True


def together(stories: Mapping[str, Story], every: float = EVERY) -> dict[str, str]:
    """Tell all to their ends, and look at what they wait for each `every` seconds.

    Looking at many takes long, and what is looked at needs the time itself: so not more than a third of it is taken,
    where one looks more often than is usual.

    Returns:
        For each, what went wrong with it; empty if nothing did.

    """
    told = {name: _Told(story) for name, story in stories.items()}
    going = [each for each in told.values() if each.go()]
    while going:
        began = time.monotonic()
        going = [each for each in going if each.look()]
        time.sleep(max(every, min(EVERY, 2 * (time.monotonic() - began))))
    return {name: each.failure for name, each in told.items()}
