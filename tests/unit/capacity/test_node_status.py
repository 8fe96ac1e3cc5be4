# SPDX-License-Identifier: Apache-2.0
"""What the Node object is told, and when nothing has to be written."""

from __future__ import annotations

import pytest

from dynamic_memory.api import names
from dynamic_memory.api.core import Node, NodeStatus
from dynamic_memory.api.meta import Condition, ObjectMeta
from dynamic_memory.capacity import status
from dynamic_memory.capacity.preflight import Check, Facts, PodLimit, findings
from dynamic_memory.host.interface import Memory

GIB = 1 << 30
MIB = 1 << 20
NOW, EARLIER = "2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z"


def memory(online=0, auto_online="offline"):
    return Memory(128 * MIB, (), 16 * GIB + online, auto_online, online)


def node(**more):
    fields = {"capacity": {"cpu": "8", "memory": "16Gi"}, "allocatable": {"cpu": "8", "memory": "15Gi"}} | more
    return Node(metadata=ObjectMeta(name="n1", uid="u1"), status=NodeStatus(**fields))


def want(online=0, *, view="extended", found=(), of=None, simulated=True):
    return status.wanted(memory(online), found, (of or node()).status, view=view, simulated=simulated)


def applied(of, wanted):
    """Return the Node object as it is after the body was applied."""
    told = status.body(wanted, of, NOW)["status"]
    (condition,) = told["conditions"]
    return node(
        capacity=of.status.capacity | told["capacity"],
        allocatable=of.status.allocatable | told.get("allocatable", {}),
        conditions=[
            Condition(
                type=condition["type"],
                status=condition["status"],
                reason=condition["reason"],
                message=condition["message"],
                last_transition_time=condition["lastTransitionTime"],
            )
        ],
    )


def test_rule_21_only_own_keys_of_the_own_node():
    body = status.body(want(512 * MIB), node(), NOW)
    assert body["metadata"] == {"name": "n1", "uid": "u1"}
    assert body["status"].keys() == {"capacity", "conditions"}
    assert body["status"]["capacity"] == {names.EXTENDED_RESOURCE: "512Mi"}
    assert [entry["type"] for entry in body["status"]["conditions"]] == [names.NODE_CONDITION]


def test_rule_21_with_nothing_online_the_key_stays_at_zero():
    assert status.body(want(0), node(), NOW)["status"]["capacity"] == {names.EXTENDED_RESOURCE: "0"}


@pytest.mark.parametrize("view", ["extended", "status"])
@pytest.mark.parametrize("online", [0, 512 * MIB, 3 * GIB])
def test_what_is_said_is_not_written_again(view, online):
    told = applied(node(), want(online, view=view))
    assert status.body(want(online, view=view, of=told), told, NOW) is None


def test_rule_21_a_key_that_vanished_is_written_again():
    told = applied(node(), want(GIB))
    del told.status.capacity[names.EXTENDED_RESOURCE]
    assert status.body(want(GIB, of=told), told, NOW)["status"]["capacity"] == {names.EXTENDED_RESOURCE: "1Gi"}


def test_the_same_number_in_another_form_is_no_difference():
    told = applied(node(), want(GIB))
    told.status.capacity[names.EXTENDED_RESOURCE] = str(GIB)
    assert status.body(want(GIB, of=told), told, NOW) is None


def test_the_view_status_adds_to_memory_and_keeps_what_is_reserved():
    told = applied(node(), want(2 * GIB, view="status"))
    assert (told.status.capacity["memory"], told.status.allocatable["memory"]) == ("18Gi", "17Gi")
    assert told.status.allocatable[names.EXTENDED_RESOURCE] == "2Gi"
    back = applied(told, want(0, view="status", of=told))
    assert (back.status.capacity["memory"], back.status.allocatable["memory"]) == ("16Gi", "15Gi")


def test_the_transition_time_moves_with_the_status_alone():
    told = applied(node(), want(0))
    condition = told.status.conditions[0]
    old = node(
        conditions=[
            Condition(type=condition.type, status="True", reason="Other", message="x", last_transition_time=EARLIER)
        ]
    )
    (kept,) = status.body(want(0, of=old), old, NOW)["status"]["conditions"]
    assert kept["lastTransitionTime"] == EARLIER
    found = findings(Facts(auto_online="online"))
    (moved,) = status.body(want(0, of=old, found=found), old, NOW)["status"]["conditions"]
    assert (moved["status"], moved["reason"], moved["lastTransitionTime"]) == ("False", "AutoOnline", NOW)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (Facts(), ("True", status.READY)),
        (Facts(auto_online="online_kernel"), ("False", "AutoOnline")),
        (Facts(ceiling_missing=True, ceiling_error="none"), ("False", "CeilingMissing")),
        (Facts(ceiling=1, ceiling_wanted=2, auto_online="online"), ("False", "CeilingTooLow")),
        (Facts(pods=[PodLimit(pod="d/p", limit=1, claimed=2)]), ("True", "PodLimitTooLow")),
    ],
)
def test_the_condition_names_the_worst_finding(facts, expected):
    wanted = want(found=findings(facts))
    assert (wanted.status, wanted.reason) == expected


def test_the_message_says_what_is_online_and_that_the_host_is_simulated():
    assert want(GIB).message == "simulated host; 1Gi of fabric memory online"
    assert want(GIB, simulated=False).message == "1Gi of fabric memory online"
    found = findings(Facts(auto_online="online"))
    assert "auto_online_blocks is online: new memory would land" in want(GIB, found=found).message


def test_a_long_message_is_cut():
    pods = [PodLimit(pod=f"d/{'p' * 100}-{number}", limit=1, claimed=2) for number in range(50)]
    assert len(want(found=findings(Facts(pods=pods))).message) == 1024


@pytest.mark.parametrize("view", ["extended", "status"])
def test_a_host_that_cannot_be_read_changes_no_number(view):
    told = applied(node(), want(2 * GIB, view=view))
    found = findings(Facts(host_error="no meminfo"))
    wanted = status.wanted(None, found, told.status, view=view, simulated=False)
    assert (wanted.status, wanted.reason) == ("Unknown", Check.HOST)
    after = applied(told, wanted)
    assert (after.status.capacity, after.status.allocatable) == (told.status.capacity, told.status.allocatable)
