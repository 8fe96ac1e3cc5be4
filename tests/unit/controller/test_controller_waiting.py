# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import msgspec
import pytest

from dynamic_memory.controller.claims import (
    ClaimView,
    PodView,
    claim_names,
    concerns_fabric,
    node_of,
    pods_of,
    shares_of,
)
from dynamic_memory.controller.waiting import Waits, message

TAG = "6f1f2a0e-3c3e-4a7e-9f0c-1d2f6f1c9a11"


def claim(*, tag=TAG, node="n1", condition=None, allocated=True, uid="u"):
    body = {
        "metadata": {"name": "far", "namespace": "app", "uid": uid},
        "spec": {"devices": {"requests": [{"name": "far", "exactly": {"deviceClassName": "dra.fabric-memory"}}]}},
        "status": {},
    }
    if allocated:
        selector = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        body["status"] = {
            "allocation": {
                "devices": {
                    "results": [
                        {"request": "f", "driver": "dra.memory", "pool": "fabric/a", "device": "d", "shareID": tag},
                        {"request": "w", "driver": "dra.memory", "pool": "n1/windows", "device": "p", "shareID": "x"},
                    ]
                },
                "nodeSelector": {"nodeSelectorTerms": [selector]},
            },
            "reservedFor": [{"resource": "pods", "name": "db-0", "uid": "p1"}],
        }
    if condition is not None:
        type_, status = condition
        body["status"]["devices"] = [
            {
                "driver": "dra.memory",
                "pool": "fabric/a",
                "device": "d",
                "shareID": tag,
                "conditions": [{"type": f"dynamicmemory.dev/{type_}", "status": status}],
            }
        ]
    return msgspec.convert(body, ClaimView)


def test_a_claim_is_read_for_what_matters():
    view = claim(condition=("Attached", "False"))
    (share,) = shares_of(view)
    assert (share.tag, share.pool, share.device, share.reported, share.settled) == (TAG, "fabric/a", "d", True, False)
    assert node_of(view) == "n1"
    assert [pod.name for pod in pods_of(view)] == ["db-0"]
    assert concerns_fabric(view)


@pytest.mark.parametrize(
    ("requests", "ours"),
    [
        ([{"name": "a", "exactly": {"deviceClassName": "gpu.example.com"}}], False),
        ([{"name": "a", "exactly": {"deviceClassName": "dra.fabric-window"}}], True),
        ([{"name": "a", "firstAvailable": [{"name": "x", "deviceClassName": "dra.fabric-memory"}]}], True),
        ([], False),
    ],
)
def test_a_claim_concerns_us_by_its_classes_before_it_is_allocated(requests, ours):
    view = msgspec.convert({"spec": {"devices": {"requests": requests}}}, ClaimView)
    assert concerns_fabric(view) is ours


def test_a_pods_claims_are_found_by_name_and_by_template():
    pod = msgspec.convert(
        {
            "spec": {
                "resourceClaims": [
                    {"name": "own", "resourceClaimName": "mine"},
                    {"name": "made", "resourceClaimTemplateName": "t"},
                    {"name": "unmade", "resourceClaimTemplateName": "t"},
                ]
            },
            "status": {"resourceClaimStatuses": [{"name": "made", "resourceClaimName": "made-x7"}, {"name": "unmade"}]},
        },
        PodView,
    )
    assert claim_names(pod) == ("mine", "made-x7")


def test_rule_22_a_claim_without_driver_is_overdue_after_thirty_seconds_and_told_once():
    waits = Waits(30.0)
    waits.update(claim(), 100.0)
    assert waits.next_due() == 130.0
    assert waits.without_driver(129.9, {"n1": False}) == []
    (wait,) = waits.without_driver(130.0, {"n1": False})
    assert (wait.node, wait.pods) == ("n1", (("db-0", "p1"),))
    waits.told(wait)
    assert waits.without_driver(200.0, {"n1": False}) == []
    assert waits.next_due() is None


def test_rule_22_what_is_due_is_overdue_at_that_very_moment():
    """9.386 + 30 - 9.386 is a trifle less than 30: the next look would be five seconds later."""
    waits = Waits(30.0)
    for since in (9.386, 100.0, 0.1):
        waits.update(claim(tag=f"t-{since}"), since)
        assert waits.without_driver(waits.next_due(), {"n1": False})


def test_rule_22_a_write_to_the_claim_does_not_start_the_wait_anew():
    waits = Waits(30.0)
    waits.update(claim(), 100.0)
    waits.update(claim(condition=("Attached", "False")), 120.0)
    assert [w.since for w in waits.overdue(130.0)] == [100.0]


def test_rule_22_another_allocation_is_another_wait():
    waits = Waits(30.0)
    waits.update(claim(), 100.0)
    waits.told(waits.overdue(130.0)[0])
    waits.update(claim(tag="0b7f7a8c-6f0a-4b0e-8f43-5b3b0a3f2c22", node="n2"), 140.0)
    assert [w.node for w in waits.overdue(170.0)] == ["n2"]


@pytest.mark.parametrize(
    ("sessions", "condition", "told"),
    [
        ({"n1": True}, None, False),
        ({"n1": True}, ("Attached", "False"), False),
        ({"n1": False}, None, True),
        ({"n1": False}, ("Attached", "False"), True),
        ({}, None, True),
        (None, None, True),
        (None, ("Attached", "False"), False),
    ],
)
def test_rule_22_a_driver_is_there_if_it_watches_or_if_it_spoke_while_nobody_can_tell(sessions, condition, told):
    waits = Waits(30.0)
    waits.update(claim(condition=condition), 0.0)
    assert bool(waits.without_driver(30.0, sessions)) is told


@pytest.mark.parametrize(
    "done", [claim(condition=("Attached", "True")), claim(condition=("AttachFailed", "True")), claim(allocated=False)]
)
def test_rule_22_nobody_waits_for_a_claim_that_is_done(done):
    waits = Waits(30.0)
    waits.update(claim(), 0.0)
    waits.update(done, 1.0)
    assert waits.overdue(100.0) == []


def test_rule_22_the_message_names_the_node_and_the_timeout():
    text = message("node-7", 600.0)
    assert "node-7" in text
    assert "600 s" in text
    assert "bindingTimeout" in text
