# SPDX-License-Identifier: Apache-2.0
"""Frames and messages without a socket: wherever the peer cuts, whatever it sends."""

from __future__ import annotations

import asyncio
import random
import struct

import pytest

from dynamic_memory.nri import mux, ttrpc
from dynamic_memory.nri.errors import CallFailed, Code, Disconnected, ProtocolError
from dynamic_memory.nri.proto.ttrpc_pb2 import Request, Response


def message(stream, data, kind=2):
    return struct.pack(">IIBB", len(data), stream, kind, 0) + data


def test_frames_are_found_wherever_the_stream_is_cut():
    sent = [(1, b"a"), (2, b"bb" * 300), (7, b"c" * 70_000), (1, b"d")]
    stream = b"".join(mux.frame(*one) for one in sent)
    for step in (1, 7, 8, 9, 4096, len(stream)):
        reader = mux.FrameReader()
        got = [f for at in range(0, len(stream), step) for f in reader.feed(stream[at : at + step])]
        assert got == sent
        assert reader.pending == 0


@pytest.mark.parametrize("length", [mux.MAX_PAYLOAD + 1, 0xFFFFFFFF])
def test_a_frame_above_the_limit_ends_the_stream(length):
    with pytest.raises(ProtocolError, match=str(length)):
        mux.FrameReader().feed(struct.pack(">II", 1, length))


def test_the_largest_frame_is_taken():
    payload = bytes(mux.MAX_PAYLOAD)
    assert mux.FrameReader().feed(mux.frame(1, payload)) == [(1, payload)]


@pytest.mark.parametrize("payload", [b"", bytes(mux.MAX_PAYLOAD + 1)])
def test_no_frame_is_made_that_a_peer_would_not_take(payload):
    with pytest.raises(ValueError, match="bytes"):
        mux.frame(1, payload)


def test_a_message_is_put_together_wherever_frames_cut_it():
    stream = message(1, b"first") + message(3, b"") + message(5, b"x" * 100)
    for cut in range(1, len(stream)):
        reader = ttrpc.MessageReader()
        got = reader.feed(stream[:cut]) + reader.feed(stream[cut:])
        assert [(m.stream, m.data) for m in got] == [(1, b"first"), (3, b""), (5, b"x" * 100)]


def test_a_message_above_the_limit_is_skipped_and_the_next_is_read():
    reader = ttrpc.MessageReader()
    size = ttrpc.MAX_DATA + 1
    stream = message(1, bytes(size)) + message(3, b"next")
    got = [m for at in range(0, len(stream), 1 << 20) for m in reader.feed(stream[at : at + (1 << 20)])]
    assert [(m.stream, m.data) for m in got] == [(1, None), (3, b"next")]


@pytest.mark.parametrize("size", [0, 1, 4086, 4087, 100_000, 1 << 20])
def test_header_and_data_are_frames_of_their_own(size):
    payloads = ttrpc.pack(9, 1, bytes(size))
    assert len(payloads[0]) == 10
    assert len(payloads) == (2 if size else 1)


def test_random_bytes_never_do_more_than_end_the_stream():
    rng = random.Random(6)
    for _ in range(500):
        reader, messages = mux.FrameReader(), ttrpc.MessageReader()
        try:
            for _connection, payload in reader.feed(rng.randbytes(rng.randrange(64))):
                messages.feed(payload)
        except ProtocolError:
            continue
        assert reader.pending <= 64


class Wire:
    """Server and client of one connection, joined in memory."""

    def __init__(self, handler) -> None:
        self.failures = []
        self.sent = []
        self.server = ttrpc.Server(self.to_client, {"svc": handler}, self.failures.append)
        self.client = ttrpc.Client(self.to_server)

    def to_client(self, *payloads):
        self.sent.extend(payloads)
        for payload in payloads:
            self.client.receive(payload)

    def to_server(self, *payloads):
        for payload in payloads:
            self.server.receive(payload)

    def answers(self):
        reader = ttrpc.MessageReader()
        return [(m.stream, Response.FromString(m.data)) for p in self.sent for m in reader.feed(p)]


async def test_a_call_is_answered_at_once_or_later():
    async def later(payload):
        await asyncio.sleep(0)
        return payload * 2

    def handler(method, payload, seconds):
        assert seconds == pytest.approx(1.5)
        return payload if method == "now" else later(payload)

    wire = Wire(handler)
    assert await wire.client.call("svc", "now", b"ab", 1.5) == b"ab"
    assert await wire.client.call("svc", "later", b"ab", 1.5) == b"abab"


async def test_an_empty_answer_is_a_header_alone():
    wire = Wire(lambda *_: b"")
    assert await wire.client.call("svc", "m", b"", 1) == b""
    assert [len(payload) for payload in wire.sent] == [10]


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (CallFailed("m", Code.FAILED_PRECONDITION, "no"), Code.FAILED_PRECONDITION, "no"),
        (ValueError("bad"), Code.UNKNOWN, "ValueError: bad"),
    ],
)
@pytest.mark.parametrize("late", [False, True])
async def test_what_a_handler_raises_is_answered(raised, code, text, late):
    async def later():
        raise raised

    def handler(*_):
        if late:
            return later()
        raise raised

    with pytest.raises(CallFailed) as caught:
        await Wire(handler).client.call("svc", "m", b"", 1)
    assert (caught.value.code, caught.value.message, caught.value.method) == (code, text, "m")


async def test_an_unknown_service_is_unimplemented():
    with pytest.raises(CallFailed) as caught:
        await Wire(lambda *_: b"").client.call("other", "m", b"", 1)
    assert caught.value.code == Code.UNIMPLEMENTED


@pytest.mark.parametrize("streams", [[2], [3, 3], [5, 3], [0]])
async def test_stream_ids_must_be_odd_and_grow(streams):
    wire = Wire(lambda *_: b"ok")
    for stream in streams:
        wire.to_server(*ttrpc.pack(stream, 1, Request(service="svc", method="m").SerializeToString()))
    last, response = wire.answers()[-1]
    assert last == streams[-1]
    assert response.status.code == Code.INVALID_ARGUMENT


async def test_what_is_no_request_is_answered_as_such():
    wire = Wire(lambda *_: b"ok")
    wire.to_server(*ttrpc.pack(1, 1, b"\xff\xff\xff"))
    assert wire.answers()[0][1].status.code == Code.INVALID_ARGUMENT


async def test_messages_of_unknown_kind_are_ignored():
    wire = Wire(lambda *_: b"ok")
    for kind in (0, 2, 3, 9):
        wire.to_server(*ttrpc.pack(1, kind, b"data"))
    assert wire.sent == []


async def test_a_request_above_the_limit_is_answered_and_the_next_is_served():
    wire = Wire(lambda *_: b"ok")
    wire.server.receive(struct.pack(">IIBB", ttrpc.MAX_DATA + 1, 1, 1, 0))
    for _ in range(4):
        wire.server.receive(bytes(1 << 20))
    wire.server.receive(b"\0")
    wire.to_server(*ttrpc.pack(3, 1, Request(service="svc", method="m").SerializeToString()))
    codes = [response.status.code for _, response in wire.answers()]
    assert codes == [Code.RESOURCE_EXHAUSTED, 0]


async def test_an_answer_above_the_limit_is_an_error():
    with pytest.raises(CallFailed) as caught:
        await Wire(lambda *_: bytes(ttrpc.MAX_DATA)).client.call("svc", "m", b"", 1)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED


async def test_a_request_above_the_limit_is_not_sent():
    wire = Wire(lambda *_: b"")
    with pytest.raises(CallFailed) as caught:
        await wire.client.call("svc", "m", bytes(ttrpc.MAX_DATA), 1)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    assert wire.sent == []


async def test_a_call_without_answer_ends_in_time():
    client = ttrpc.Client(lambda *_: None)
    with pytest.raises(CallFailed) as caught:
        await client.call("svc", "m", b"", 0.01)
    assert caught.value.code == Code.DEADLINE_EXCEEDED
    client.receive(message(1, b""))  # too late: dropped


async def test_answers_find_their_call_by_id_alone():
    client = ttrpc.Client(lambda *_: None)
    first, second = (asyncio.create_task(client.call("svc", "m", b"", 1)) for _ in range(2))
    await asyncio.sleep(0)
    client.receive(message(99, b"nobody's"))
    client.receive(message(3, Response(payload=b"second").SerializeToString()))
    client.receive(message(1, Response(payload=b"first").SerializeToString()))
    client.receive(message(1, Response(payload=b"again").SerializeToString()))
    assert (await first, await second) == (b"first", b"second")


async def test_calls_in_hand_fail_when_the_connection_is_lost():
    client = ttrpc.Client(lambda *_: None)
    call = asyncio.create_task(client.call("svc", "m", b"", 1))
    await asyncio.sleep(0)
    client.lost("gone")
    with pytest.raises(Disconnected, match="gone"):
        await call
    with pytest.raises(Disconnected, match="gone"):
        await client.call("svc", "m", b"", 1)


async def test_an_answer_that_is_none_is_a_broken_protocol():
    client = ttrpc.Client(lambda *_: None)
    call = asyncio.create_task(client.call("svc", "m", b"", 1))
    await asyncio.sleep(0)
    client.receive(message(1, b"\xff\xff"))
    with pytest.raises(ProtocolError):
        await call


async def test_calls_in_hand_are_bounded_on_both_sides():
    never = asyncio.get_running_loop().create_future()

    async def wait():
        return await never

    wire = Wire(lambda *_: wait())
    calls = [asyncio.create_task(wire.client.call("svc", "m", b"", 5)) for _ in range(ttrpc.MAX_PENDING)]
    await asyncio.sleep(0)
    with pytest.raises(CallFailed) as caught:
        await wire.client.call("svc", "m", b"", 5)
    assert caught.value.code == Code.RESOURCE_EXHAUSTED
    wire.to_server(*ttrpc.pack(9999, 1, Request(service="svc", method="m").SerializeToString()))
    assert len(wire.failures) == 1
    await wire.server.stop()
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.aborted = False
        self.written = b""

    def write(self, data):
        self.written += bytes(data)

    def is_closing(self):
        return self.aborted

    def abort(self):
        self.aborted = True

    close = abort


async def test_frames_of_a_connection_that_is_not_open_are_dropped():
    link, got = mux.Mux(), []
    link.connection_made(Transport())
    link.open(1, got.append)
    link.data_received(mux.frame(3, b"x") + mux.frame(0, b"y") + mux.frame(1, b"z"))
    assert got == [b"z"]


async def test_frames_wait_for_their_reader_up_to_a_bound():
    transport, link, got = Transport(), mux.Mux(), []
    link.connection_made(transport)
    link.open(1)
    for n in range(mux.QUEUE):
        link.data_received(mux.frame(1, b"%d" % n))
    assert not transport.aborted
    link.open(1, got.append)
    assert got == [b"%d" % n for n in range(mux.QUEUE)]
    link.open(2)
    for _ in range(mux.QUEUE + 1):
        link.data_received(mux.frame(2, b"x"))
    assert transport.aborted
    link.connection_lost(None)
    assert "256 frames" in await link.closed


async def test_nothing_is_sent_on_a_closed_socket():
    transport, link = Transport(), mux.Mux()
    with pytest.raises(Disconnected):
        link.send(1, b"x")
    link.connection_made(transport)
    link.send(1, b"head", b"data")
    assert transport.written == mux.frame(1, b"head") + mux.frame(1, b"data")
    link.abort("why")
    with pytest.raises(Disconnected, match="why"):
        link.send(1, b"x")
