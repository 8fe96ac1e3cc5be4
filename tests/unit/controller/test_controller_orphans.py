# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.api.core import Node, NodeSpec, Taint
from dynamic_memory.controller.books import Unowned
from dynamic_memory.controller.orphans import OUT_OF_SERVICE, Action, action, find, limit_at_once
from dynamic_memory.fabric.model import HostWindow, Range, Share


def share(tag="t", *, owner="c1", node="n1", requested=False):
    return Share(
        tag=tag,
        owner=owner,
        node=node,
        pool="fabric/a",
        device="d",
        size=1,
        ranges=(Range(0, 1),),
        release_requested=requested,
    )


def unowned(tag="t", *, seen=0.0, **changes):
    return Unowned(share=share(tag, **changes), seen=seen, since=seen, last_owner=None)


def host(*, node="n1", session=False, lapsed=True):
    return HostWindow(
        node=node,
        host="h",
        domain="a",
        device="port0",
        total=1,
        max_extents=1,
        used=0,
        used_extents=0,
        healthy=True,
        session=session,
        session_lapsed=lapsed,
    )


def node(*taints):
    return Node(spec=NodeSpec(taints=[Taint(key=key, effect="NoExecute") for key in taints]))


OFF = node(OUT_OF_SERVICE)


def orphans_of(*candidates, listed=(), began=10.0, total=100):
    return find(candidates, owner="c1", listed=set(listed), began=began, total=total)


def test_rule_19_a_share_missing_from_a_list_that_began_later_is_an_orphan():
    assert [o.share.tag for o in orphans_of(unowned("t", seen=9.0)).orphans] == ["t"]


@pytest.mark.parametrize("seen", [10.0, 11.0])
def test_rule_19_a_list_that_began_before_the_share_was_seen_proves_nothing(seen):
    assert orphans_of(unowned("t", seen=seen), began=10.0).orphans == ()


def test_rule_19_a_share_whose_claim_is_in_the_list_is_no_orphan():
    assert orphans_of(unowned("t"), listed={"t"}).orphans == ()


def test_rule_19_a_share_of_another_owner_is_no_orphan():
    assert orphans_of(unowned("t", owner="c2")).orphans == ()


@pytest.mark.parametrize(
    ("found", "total", "stopped"),
    [(1, 1, False), (5, 5, False), (6, 6, True), (6, 29, True), (6, 30, False), (20, 100, False), (21, 100, True)],
)
def test_rule_19_too_many_at_once_stop_everything(found, total, stopped):
    result = orphans_of(*(unowned(f"t{n}") for n in range(found)), total=total)
    assert len(result.orphans) == found
    assert result.stopped is stopped


def test_rule_19_those_that_were_asked_for_already_do_not_stop_the_rest():
    old = [unowned(f"o{n}", requested=True) for n in range(9)]
    assert not orphans_of(unowned("t"), *old, total=10).stopped


@pytest.mark.parametrize("total", [0, 1, 4, 25, 26, 1000])
def test_the_limit_is_the_larger_of_the_two(total):
    assert limit_at_once(total) == max(5, total // 5)


@pytest.mark.parametrize(
    ("case", "window", "kube_node", "requested", "expected"),
    [
        ("alive", host(session=True, lapsed=False), node(), False, Action.ASK),
        ("alive, asked", host(session=True, lapsed=False), node(), True, Action.NOTHING),
        ("alive, but tainted", host(session=True, lapsed=False), OFF, False, Action.ASK),
        ("silent for a moment, tainted", host(lapsed=False), OFF, True, Action.NOTHING),
        ("lapsed, not tainted", host(), node("node.kubernetes.io/unreachable"), True, Action.NOTHING),
        ("lapsed, Node deleted", host(), None, False, Action.ASK),
        ("unknown to the service, tainted", None, OFF, False, Action.ASK),
        ("another node's host", host(node="n2"), OFF, False, Action.ASK),
        ("session in spite of lapse", host(session=True), OFF, False, Action.ASK),
        ("off", host(), OFF, False, Action.RELEASE),
        ("off, asked before", host(), OFF, True, Action.RELEASE),
    ],
)
def test_rule_6_only_a_host_that_is_proven_off_loses_memory_without_its_driver(
    case, window, kube_node, requested, expected
):
    assert action(share(requested=requested), window, kube_node) is expected, case


@given(
    candidates=st.lists(
        st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["c1", "c2"]), st.floats(0, 20), st.booleans()),
        unique_by=lambda entry: entry[0],
        max_size=8,
    ),
    listed=st.sets(st.sampled_from("abcdefgh")),
    began=st.floats(0, 20),
    total=st.integers(0, 50),
)
def test_rule_19_never_touches_an_extent_whose_claim_exists_or_another_owners(candidates, listed, began, total):
    entries = [unowned(tag, owner=owner, seen=seen, requested=asked) for tag, owner, seen, asked in candidates]
    found = find(entries, owner="c1", listed=listed, began=began, total=total)
    for orphan in found.orphans:
        assert orphan.share.tag not in listed
        assert orphan.share.owner == "c1"
        assert orphan.seen < began
    missed = [e for e in entries if e not in found.orphans and e.share.owner == "c1" and e.share.tag not in listed]
    assert all(e.seen >= began for e in missed)


@given(
    session=st.booleans(),
    lapsed=st.booleans(),
    known=st.booleans(),
    exists=st.booleans(),
    tainted=st.booleans(),
    asked=st.booleans(),
)
def test_rule_6_never_takes_memory_of_a_live_host(session, lapsed, known, exists, tainted, asked):
    window = host(session=session, lapsed=lapsed) if known else None
    kube_node = node(*([OUT_OF_SERVICE] if tainted else [])) if exists else None
    what = action(share(requested=asked), window, kube_node)
    proven = known and not session and lapsed and exists and tainted
    assert (what is Action.RELEASE) == proven
