# SPDX-License-Identifier: Apache-2.0
"""The fault points of the driver: one after the effect of every step, where a test may kill it.

What a step has done must be found again by the next process; that is only shown by dying after each of them.
"""

from __future__ import annotations

from dynamic_memory.driver.planner import Step
from dynamic_memory.process import faults

__all__ = ["passed", "passed_step"]

_OF_STEP = {
    Step.WRITE_RECORD: "record-written",
    Step.TAKE_BACK: "taken-back",
    Step.WITHDRAW_REPORT: "report-withdrawn",
    Step.ADD_MEMORY: "memory-added",
    Step.CREATE_REGION: "region-created",
    Step.ONLINE: "onlined",
    Step.REPORT_ATTACHED: "reported",
    Step.RECORD_ATTACHED: "record-attached",
    Step.WRITE_RELEASING: "releasing-written",
    Step.PUBLISH_TRUTH: "truth-published",
    Step.OFFLINE: "offlined",
    Step.DESTROY_REGION: "region-destroyed",
    Step.REMOVE_MEMORY: "memory-removed",
    Step.REPORT_FAILED: "failure-reported",
    Step.DROP_RECORD: "record-dropped",
}
_OTHERS = (
    "failure-recorded",
    "prepared-recorded",
    "cdi-written",
    "prepared",
    "releasing-recorded",
    "cdi-removed",
    "unprepared",
    "orphan-recorded",
)

faults.declare("driver", *_OF_STEP.values(), *_OTHERS)


def passed(name: str) -> None:
    """Say that an effect has happened."""
    faults.point(f"driver.{name}")


def passed_step(step: Step) -> None:
    """Say that the effect of a step has happened."""
    passed(_OF_STEP[step])
