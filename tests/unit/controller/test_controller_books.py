# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import uuid

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dynamic_memory.controller.books import Books, Owner
from dynamic_memory.fabric.model import Range, Share


def share(tag, *, size=10, owner="c1", device="d0", node="n1"):
    return Share(tag=tag, owner=owner, node=node, pool="fabric/a", device=device, size=size, ranges=(Range(0, size),))


def books(grace=1.0):
    return Books("c1", grace=grace)


KEY = ("ns", "claim")


def test_rule_18_bytes_of_an_allocated_claim_are_not_subtracted():
    ledger = books()
    ledger.put_claim(KEY, "u", ["t1"], 0)
    assert ledger.put_share(share("t1"), 0) is False
    assert ledger.held(100) == {}


def test_rule_18_bytes_are_subtracted_at_once_when_their_claim_goes():
    ledger = books()
    ledger.put_claim(KEY, "u", ["t1"], 0)
    ledger.put_share(share("t1"), 0)
    assert ledger.drop_claim(KEY, 5) is True
    assert ledger.held(5) == {("fabric/a", "d0"): 10}
    (entry,) = ledger.unowned(5)
    assert entry.last_owner == Owner("ns", "claim", "u")
    assert (entry.seen, entry.since) == (0, 5)


def test_a_share_that_is_new_counts_after_a_moment_in_which_its_claim_may_become_known():
    ledger = books(grace=1.0)
    ledger.replace_shares([share("old")], 0)
    ledger.put_share(share("t1"), 10)
    assert ledger.held(10.5) == {("fabric/a", "d0"): 10}
    assert ledger.next_change(10.5) == 11
    assert ledger.held(11) == {("fabric/a", "d0"): 20}
    assert ledger.next_change(11) is None


def test_shares_of_the_first_snapshot_count_at_once():
    ledger = books()
    assert ledger.replace_shares([share("t1"), share("t2", device="d1")], 0) == []
    assert ledger.held(0) == {("fabric/a", "d0"): 10, ("fabric/a", "d1"): 10}


def test_a_later_snapshot_tells_what_came_back_meanwhile():
    ledger = books()
    ledger.replace_shares([share("t1"), share("t2")], 0)
    assert [s.tag for s in ledger.replace_shares([share("t2")], 1)] == ["t1"]
    assert set(ledger.shares) == {"t2"}
    assert [entry.share.tag for entry in ledger.unowned(1)] == ["t2"]


def test_another_owners_share_is_never_entered():
    ledger = books()
    assert ledger.put_share(share("t1", owner="c2"), 0) is False
    assert not ledger.shares
    assert ledger.held(9) == {}


def test_a_claim_that_is_allocated_anew_leaves_its_old_share_without_owner():
    ledger = books()
    ledger.put_claim(KEY, "u", ["t1"], 0)
    ledger.put_share(share("t1"), 0)
    assert ledger.put_claim(KEY, "u", ["t2"], 1) is True
    assert [entry.share.tag for entry in ledger.unowned(1)] == ["t1"]


class Ledgers(RuleBasedStateMachine):
    """The books against the plain sum over everything."""

    tags = st.sampled_from([str(uuid.UUID(int=n)) for n in range(6)])
    keys = st.sampled_from([("a", "x"), ("a", "y"), ("b", "x")])

    @initialize()
    def begin(self):
        self.books = Books("c1", grace=0.0)
        self.books.replace_shares([], 0)
        self.shares: dict[str, Share] = {}
        self.claims: dict[tuple[str, str], set[str]] = {}

    @rule(tag=tags, size=st.integers(1, 5), owner=st.sampled_from(["c1", "c1", "c2"]))
    def attach(self, tag, size, owner):
        if tag in self.shares:
            return
        self.books.put_share(share(tag, size=size, owner=owner), 1)
        if owner == "c1":
            self.shares[tag] = share(tag, size=size)

    @rule(tag=tags)
    def release(self, tag):
        self.books.drop_share(tag)
        self.shares.pop(tag, None)

    @rule(key=keys, tags=st.sets(tags, max_size=2))
    def allocate(self, key, tags):
        taken = {tag for other, held in self.claims.items() if other != key for tag in held}
        self.claims[key] = tags - taken
        self.books.put_claim(key, "u", tags - taken, 1)

    @rule(key=keys)
    def delete(self, key):
        self.claims.pop(key, None)
        self.books.drop_claim(key, 1)

    @rule()
    def reconnect(self):
        self.books.replace_shares(list(self.shares.values()), 1)

    @invariant()
    def the_books_are_right(self):
        owned = {tag for tags in self.claims.values() for tag in tags}
        expected = sum(s.size for tag, s in self.shares.items() if tag not in owned)
        assert sum(self.books.held(2).values()) == expected
        assert {e.share.tag for e in self.books.unowned(2)} == set(self.shares) - owned


TestLedgers = Ledgers.TestCase
TestLedgers.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
