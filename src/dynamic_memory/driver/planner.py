# SPDX-License-Identifier: Apache-2.0
"""Which step comes next for one share: *wanted* against *present*, one step at a time.

The whole life of a share is in this one function. It looks only at what is true now, never at what was done before, so
it does not matter where a process was killed, or how often a step is repeated: the same state leads to the same next
step, and every chain of steps ends in a state that asks for none. Pure.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Facts", "Reported", "State", "Step", "next_step"]


class State(enum.StrEnum):
    """What the record of a share says; `releasing` is written before anything is taken away, and blocks an attach."""

    ATTACHING = "attaching"
    ATTACHED = "attached"
    RELEASING = "releasing"


class Reported(enum.Enum):
    """What the claim's conditions say of the share."""

    NOTHING = "nothing"
    """Neither Attached nor AttachFailed is True."""
    ATTACHED = "attached"
    FAILED = "failed"


class Step(enum.Enum):
    """One step, after which the facts are looked at again."""

    WRITE_RECORD = "write-record"
    TAKE_BACK = "take-back"
    WITHDRAW_REPORT = "withdraw-report"
    ADD_MEMORY = "add-memory"
    CREATE_REGION = "create-region"
    ONLINE = "online"
    REPORT_ATTACHED = "report-attached"
    RECORD_ATTACHED = "record-attached"
    READY = "ready"
    """Nothing to do: the memory is there and everybody knows."""

    WRITE_RELEASING = "write-releasing"
    PUBLISH_TRUTH = "publish-truth"
    OFFLINE = "offline"
    DESTROY_REGION = "destroy-region"
    REMOVE_MEMORY = "remove-memory"
    REPORT_FAILED = "report-failed"
    DROP_RECORD = "drop-record"
    RELEASED = "released"
    """Nothing to do: the bytes are back; the record stays until the claim lets go of the share."""
    GONE = "gone"
    """Nothing to do: nobody knows this share any more."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the next step of a share.

    Attributes:
        allocated: the claim holds this share on this node, as last read.
        record: what the record says; None if there is none.
        failed: the record says that the attach failed: the share is released and the failure reported.
        new_pod: a pod that was not known when the release began has reserved the claim.
        truth_published: since the failure, this process has published it in the node's slices.
        undo_expired: the time for undoing a failed attach is over.
        extent: the fabric holds memory under the tag for this node.
        region: the host has a region of the tag, or a part of one.
        whole: the region has all its bytes.
        online: all bytes of the region are online.
        any_online: at least one block of the region is online.
        reported: what the claim's conditions say.

    """

    allocated: bool
    record: State | None = None
    failed: bool = False
    new_pod: bool = False
    truth_published: bool = False
    undo_expired: bool = False
    extent: bool = False
    region: bool = False
    whole: bool = False
    online: bool = False
    any_online: bool = False
    reported: Reported = Reported.NOTHING

    @property
    def wanted(self) -> bool:
        """Rule 8: allocated to this node and not being released; a reported failure is on its way out as well."""
        return self.allocated and self.record is not State.RELEASING and self.reported is not Reported.FAILED


def next_step(facts: Facts) -> Step:
    """Return the next step."""
    if facts.allocated and facts.record is State.RELEASING and facts.new_pod and not facts.failed:
        return Step.TAKE_BACK
    return _attach(facts) if facts.wanted else _detach(facts)


def _attach(facts: Facts) -> Step:
    present = facts.extent and facts.online
    reported = facts.reported is Reported.ATTACHED
    chain = (
        (reported and not present, Step.WITHDRAW_REPORT),
        (facts.record is None, Step.WRITE_RECORD),
        (not facts.extent, Step.ADD_MEMORY),
        (not facts.whole, Step.CREATE_REGION),
        (not facts.online, Step.ONLINE),
        (not reported, Step.REPORT_ATTACHED),
        (facts.record is not State.ATTACHED, Step.RECORD_ATTACHED),
    )
    return _first(chain, Step.READY)


def _detach(facts: Facts) -> Step:
    present = facts.extent or facts.region
    known = facts.record is not None
    report = facts.allocated and facts.failed and facts.reported is not Reported.FAILED
    chain = (
        (facts.record is not State.RELEASING and (known or present), Step.WRITE_RELEASING),
        (not known, Step.GONE),
        (report and not facts.truth_published, Step.PUBLISH_TRUTH),
        (facts.allocated and facts.reported is Reported.ATTACHED, Step.WITHDRAW_REPORT),
        (report and (facts.undo_expired or not present), Step.REPORT_FAILED),
        (facts.any_online, Step.OFFLINE),
        (facts.region, Step.DESTROY_REGION),
        (facts.extent, Step.REMOVE_MEMORY),
        (facts.allocated, Step.RELEASED),
    )
    return _first(chain, Step.DROP_RECORD)


def _first(chain: tuple[tuple[bool, Step], ...], otherwise: Step) -> Step:
    """Return the first step whose turn it is."""
    return next((step for due, step in chain if due), otherwise)
