# SPDX-License-Identifier: Apache-2.0
"""Identities, errors and sessions: the small words of the fabric."""

from __future__ import annotations

import grpc
import pytest

from dynamic_memory.errors import InvalidInput, Kind
from dynamic_memory.fabric import errors, failures, identity
from dynamic_memory.fabric.authentication import IDENTITY_KEY, ByWord
from dynamic_memory.fabric.identity import Identity
from dynamic_memory.fabric.sessions import Sessions

KINDS = {
    errors.Unreachable: Kind.RETRY,
    errors.Rejected: Kind.RETRY,
    errors.Exhausted: Kind.NOT_HERE,
    errors.WindowFull: Kind.NOT_HERE,
    errors.DeviceDown: Kind.NOT_HERE,
    errors.BackendFailure: Kind.NOT_HERE,
    errors.BadArgument: Kind.NEVER,
    errors.UnknownNode: Kind.NEVER,
    errors.UnknownDevice: Kind.NEVER,
    errors.Conflicts: Kind.NEVER,
    errors.Denied: Kind.NEVER,
    errors.Unauthenticated: Kind.NEVER,
}
EXAMPLES = [
    errors.Unreachable("x"),
    errors.Rejected("x"),
    errors.Exhausted(4, 3, 2, 1),
    errors.Exhausted(0, 0),
    errors.WindowFull(4, 3, 2, 1),
    errors.DeviceDown("cxl0", "x"),
    errors.BackendFailure("x"),
    errors.BadArgument("bytes", "x"),
    errors.UnknownNode("n"),
    errors.UnknownDevice("p/d"),
    errors.Conflicts("t", "bytes"),
    errors.Conflicts("t"),
    errors.Denied("x"),
    errors.Unauthenticated("x"),
]


def arrived(error):
    metadata = grpc.aio.Metadata((failures.FAILURE_KEY, failures.failure_to(error)))
    status = failures.status_of(error)
    return failures.error_from(grpc.aio.AioRpcError(status, grpc.aio.Metadata(), metadata, details=str(error)))


@pytest.mark.parametrize("error", EXAMPLES, ids=repr)
def test_an_error_arrives_as_it_was(error):
    again = arrived(error)

    assert (type(again), again.args, str(again)) == (type(error), error.args, str(error))
    assert again.kind is KINDS[type(error)]


def test_every_error_has_a_row_an_example_and_a_kind():
    def leaves(kind):
        return {kind} if not kind.__subclasses__() else {kind}.union(*(leaves(each) for each in kind.__subclasses__()))

    abstract = {errors.FabricError, errors.Unknown}
    every = leaves(errors.FabricError) - abstract

    assert {row.error for row in failures.ROWS} == every == set(KINDS) == {type(error) for error in EXAMPLES}


@pytest.mark.parametrize("metadata", [(), ((failures.FAILURE_KEY, b""),), ((failures.FAILURE_KEY, b"\xff\xff"),)])
@pytest.mark.parametrize("status", list(grpc.StatusCode))
def test_a_status_without_details_is_tried_again(status, metadata):
    error = grpc.aio.AioRpcError(status, grpc.aio.Metadata(), grpc.aio.Metadata(*metadata), details="gone")

    assert str(failures.error_from(error)) == f"fabric does not answer: {status.name}: gone"


@pytest.mark.parametrize(
    "known",
    [
        Identity.node("c1", "n1"),
        Identity.node("prod.example", "worker-1.rack-2.example"),
        Identity.role("c1", "operator"),
    ],
    ids=str,
)
def test_an_identity_is_read_as_it_is_written(known):
    assert identity.parse(str(known)) == known


@pytest.mark.parametrize(
    "text",
    ["", "n1", "dynamic-memory:", "dynamic-memory://", "dynamic-memory://c1", "dynamic-memory://c1/node",
     "dynamic-memory://c1/node/", "dynamic-memory:///node/n1", "dynamic-memory://c1/node/N1",
     "dynamic-memory://c1/node/n1/", "dynamic-memory://c1/node/n1?x", "dynamic-memory://c1/node/n%31",
     "dynamic-memory://c1/node/../x", "dynamic-memory://c1/role/root", "dynamic-memory://c1/pod/n1",
     "Dynamic-Memory://c1/node/n1", "spiffe://c1/node/n1", "dynamic-memory://c1/node/" + "a" * 254,
     "dynamic-memory://c1/node/n1\n", " dynamic-memory://c1/node/n1"],
)  # fmt: skip
def test_what_is_not_exactly_an_identity_is_refused(text):
    with pytest.raises(InvalidInput, match="identity"):
        identity.parse(text)


@pytest.mark.parametrize(
    ("owners", "said", "expected"),
    [
        (["c1"], "node/n1", Identity.node("c1", "n1")),
        (["c1", "c2"], "controller/c2", Identity.role("c2", "controller")),
        (["c1", "c2"], "operator/c1", Identity.role("c1", "operator")),
        (["c1", "c2"], "dynamic-memory://c2/node/n1", Identity.node("c2", "n1")),
        (["c1", "c2"], "node/n1", None),
        (["c1"], "king/c1", None),
        (["c1"], "", None),
    ],
)
def test_without_TLS_a_caller_says_who_it_is(owners, said, expected):
    credentials = ByWord(owners)

    if expected is None:
        with pytest.raises(errors.Unauthenticated):
            credentials.identify({}, ((IDENTITY_KEY, said),))
    else:
        assert credentials.identify({}, ((IDENTITY_KEY, said),)).identity == expected


def test_without_TLS_a_caller_says_it_once():
    for metadata in ((), ((IDENTITY_KEY, "node/n1"), (IDENTITY_KEY, "node/n2"))):
        with pytest.raises(errors.Unauthenticated):
            ByWord(["c1"]).identify({}, metadata)


def test_a_session_lapses_by_the_clock_since_it_was_last_open():
    sessions = Sessions(started=100.0, lapse=60.0)
    key = ("c1", "n1")

    assert (sessions.age(*key, 130.0), sessions.lapsed(*key, 159.9), sessions.lapsed(*key, 160.0)) == (
        None,
        False,
        True,
    )
    sessions.opened(*key)
    sessions.opened(*key)
    sessions.closed(*key, 200.0)
    assert (sessions.alive(*key), sessions.age(*key, 999.0), sessions.lapsed(*key, 999.0)) == (True, 0.0, False)
    sessions.closed(*key, 1000.0)
    assert (sessions.age(*key, 1059.0), sessions.lapsed(*key, 1059.0), sessions.lapsed(*key, 1060.0)) == (
        59.0,
        False,
        True,
    )
    assert not sessions.alive("c2", "n1")
