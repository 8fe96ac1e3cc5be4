# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from tests.unit.driver.conftest import NODE, claim_body, decode

from dynamic_memory.driver import claims

SIZE = 512 << 20


def results(body):
    return body["status"]["allocation"]["devices"]["results"]


def requests(body):
    return body["spec"]["devices"]["requests"]


def test_a_completed_claim_has_one_share(body):
    share = claims.share_of(decode(body), NODE)
    assert share == claims.ClaimShare(
        tag=results(body)[0]["shareID"],
        pool="fabric/rack-1",
        device="cxl0",
        size=SIZE,
        request="far",
        window="port0",
        window_request="far-window",
        window_share_id=results(body)[1]["shareID"],
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda b: b["status"].pop("allocation"),
        lambda b: b["status"]["allocation"].pop("nodeSelector"),
        lambda b: b.update(claim_body(node="n2")),
        lambda b: [r.update(driver="other.example") for r in results(b)],
    ],
    ids=["not-allocated", "no-node", "other-node", "other-driver"],
)
def test_a_claim_that_asks_nothing_of_this_node_has_no_share(body, change):
    change(body)
    assert claims.share_of(decode(body), NODE) is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda b: results(b).append(results(b)[0] | {"request": "more"}), "2 shares of fabric memory"),
        (lambda b: results(b).pop(1), "0 of the node's windows"),
        (lambda b: results(b).pop(0), "0 shares of fabric memory"),
        (lambda b: results(b)[1].update(pool="n2/windows"), "not one of this node's driver"),
        (lambda b: results(b)[0].update(shareID=None), "without a shareID"),
        (lambda b: results(b)[0].update(shareID="../../etc"), "without a shareID"),
        (lambda b: results(b)[0].update(consumedCapacity={}), "without the capacity 'size'"),
        (lambda b: results(b)[0].update(consumedCapacity={"size": "much"}), "request far: "),
        (lambda b: results(b)[0].update(consumedCapacity={"size": "0"}), "allocated 0 bytes"),
        (lambda b: results(b)[1].update(consumedCapacity={"size": "1Gi"}), "must have the same size"),
        (lambda b: requests(b)[0]["exactly"].update(adminAccess=True), "adminAccess"),
        (lambda b: requests(b)[0]["exactly"].update(allocationMode="All"), "ExactCount, count 1"),
        (lambda b: requests(b)[0]["exactly"].update(count=2), "ExactCount, count 1"),
        (lambda b: results(b)[0].update(request="far/big"), "firstAvailable"),
        (lambda b: b["spec"]["devices"].pop("constraints"), "must be tied by matchAttribute dra.memory/fabricDomain"),
        (
            lambda b: b["spec"]["devices"]["constraints"][0].update(requests=["far"]),
            "must be tied by matchAttribute",
        ),
        (
            lambda b: (results(b)[0].update(request="x" * 57), requests(b)[0].update(name="x" * 57)),
            "too long: 56 characters",
        ),
    ],
)
def test_rule_16_what_slipped_through_admission_is_refused_with_a_sentence(body, change, says):
    change(body)
    with pytest.raises(claims.RefusedClaim) as refusal:
        claims.share_of(decode(body), NODE)
    assert says in str(refusal.value)


def test_a_constraint_over_all_requests_ties_both(body):
    body["spec"]["devices"]["constraints"][0].pop("requests")
    assert claims.share_of(decode(body), NODE) is not None


def test_only_pods_count_among_those_that_a_claim_is_reserved_for(body):
    body["status"]["reservedFor"].append({"apiGroup": "x.example", "resource": "pods", "name": "a", "uid": "b"})
    assert claims.pods_of(decode(body)) == [claims.Pod("p1", "uid-p1")]
