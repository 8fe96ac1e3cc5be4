# SPDX-License-Identifier: Apache-2.0
"""What every backend of the fabric has to do, whatever it is made of.

A backend's own test module subclasses `BackendConformance` and gives the fixture `rig`: how to open, reopen and break
this backend. The fabric that it opens is always the same: domain `d1` with the pool devices `m1` (1 GiB) and `m2`
(512 MiB) in units of 128 MiB, and the hosts `h1` (window of 1 GiB, 3 extents) and `h2` (window of 1 GiB, 8 extents);
domain `d2` with `m1` (256 MiB) and `h3`.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import Protocol

import pytest

from dynamic_memory.fabric.backends.faults import Failure, Faults
from dynamic_memory.fabric.backends.interface import Allocation, Backend, Changed, Device, Host, Order
from dynamic_memory.fabric.errors import (
    BackendFailure,
    BadArgument,
    Conflicts,
    DeviceDown,
    Exhausted,
    Unreachable,
    WindowFull,
)

MIB = 1 << 20
UNIT = 128 * MIB
DEVICES = (
    Device(domain="d1", name="m1", total=8 * UNIT, unit=UNIT, attributes={"latencyNs": 300}),
    Device(domain="d1", name="m2", total=4 * UNIT, unit=UNIT),
    Device(domain="d2", name="m1", total=2 * UNIT, unit=UNIT),
)
HOSTS = (
    Host(domain="d1", name="h1", device="port0", window=8 * UNIT, max_extents=3),
    Host(domain="d1", name="h2", device="port0", window=8 * UNIT, max_extents=8),
    Host(domain="d2", name="h3", device="port0", window=8 * UNIT, max_extents=8),
)


class Rig(Protocol):
    """How the suite handles one kind of backend."""

    async def open(self) -> Backend:
        """The backend on the fabric above; called again, a new one on the same hardware, the old one being gone."""
        ...

    async def break_(self, faults: Faults) -> None:
        """Put faults in force, in the words of the simulated fabric; no argument given, none."""
        ...


def order(
    size: int = UNIT, *, tag: str | None = None, host: str = "h2", device: str = "m1", domain: str = "d1"
) -> Order:
    return Order(tag=tag or str(uuid.uuid4()), host=host, domain=domain, device=device, size=size)


def check_books(backend: Backend) -> None:
    """I1: every byte is on one extent at most, within its device; every share is the sum of its extents."""
    view = backend.view()
    for key, device in view.devices.items():
        taken = sorted(
            (extent.device_offset, extent.end)
            for entry in view.allocations.values()
            if entry.key == key
            for extent in entry.ranges
        )
        ends = [0, *(end for _, end in taken)]
        assert all(begin >= end for (begin, _), end in zip(taken, ends, strict=False)), f"{key} overlaps"
        assert ends[-1] <= device.total
    for tag, entry in view.allocations.items():
        assert tag == entry.tag
        assert entry.size == sum(extent.size for extent in entry.ranges)
        assert all(extent.size % view.devices[entry.key].unit == 0 for extent in entry.ranges)


class BackendConformance:
    """The suite."""

    @pytest.fixture
    def rig(self) -> Rig:
        raise NotImplementedError

    async def test_shows_its_inventory(self, rig):
        view = (await rig.open()).view()

        assert set(view.devices) == {device.key for device in DEVICES}
        assert set(view.hosts) == {host.name for host in HOSTS}
        assert view.devices["d1", "m1"].attributes == {"latencyNs": 300}
        assert not view.allocations

    async def test_composes_what_was_ordered(self, rig):
        backend = await rig.open()
        wanted = order(2 * UNIT)

        made = await backend.compose(wanted)

        assert made.difference(wanted) == ""
        assert sum(extent.size for extent in made.ranges) == 2 * UNIT
        assert backend.view().allocations == {wanted.tag: made}
        check_books(backend)

    async def test_I5_the_same_order_again_is_the_same_allocation(self, rig):
        backend = await rig.open()
        wanted = order()

        assert await backend.compose(wanted) == await backend.compose(wanted)
        assert len(backend.view().allocations) == 1

    @pytest.mark.parametrize(
        ("field", "other"),
        [
            ("size", {"size": 2 * UNIT}),
            ("host", {"host": "h1"}),
            ("device", {"device": "m2"}),
            ("host", {"host": "h3", "domain": "d2"}),
        ],
    )
    async def test_a_tag_stands_for_one_order(self, rig, field, other):
        backend = await rig.open()
        first = await backend.compose(order())

        with pytest.raises(Conflicts) as refused:
            await backend.compose(order(**{"tag": first.tag, **other}))

        assert (refused.value.tag, refused.value.field) == (first.tag, field)
        assert backend.view().allocations == {first.tag: first}

    async def test_I5_released_bytes_are_free_again_and_an_unknown_tag_is_no_matter(self, rig):
        backend = await rig.open()
        everything = order(8 * UNIT)
        for _ in range(2):
            made = await backend.compose(everything)
            await backend.release(made.tag)
            await backend.release(made.tag)

        assert not backend.view().allocations

    async def test_I7_never_gives_more_than_the_device_has(self, rig):
        backend = await rig.open()
        await backend.compose(order(6 * UNIT))

        with pytest.raises(Exhausted) as refused:
            await backend.compose(order(3 * UNIT, host="h1"))

        assert (refused.value.want, refused.value.have, refused.value.held) == (3 * UNIT, 2 * UNIT, 6 * UNIT)
        assert refused.value.kind.value == "not-here"

    async def test_I7_never_gives_more_than_the_window_of_the_host(self, rig):
        backend = await rig.open()
        await backend.compose(order(7 * UNIT))

        with pytest.raises(WindowFull) as refused:
            await backend.compose(order(2 * UNIT, device="m2"))

        assert (refused.value.want, refused.value.have) == (2 * UNIT, UNIT)

    async def test_I7_never_gives_more_extents_than_the_host_can_hold(self, rig):
        backend = await rig.open()
        filler = [await backend.compose(order(host="h2")) for _ in range(8)]
        for entry in filler:
            if entry.ranges[0].device_offset // UNIT % 2 == 0:
                await backend.release(entry.tag)

        with pytest.raises(WindowFull) as refused:
            await backend.compose(order(4 * UNIT, host="h1"))

        assert (refused.value.extents, refused.value.want_extents) == (3, 4)
        made = await backend.compose(order(3 * UNIT, host="h1"))
        assert len(made.ranges) == 3
        check_books(backend)

    async def test_a_fragmented_device_is_used_to_its_last_byte(self, rig):
        backend = await rig.open()
        filler = [await backend.compose(order(host="h2")) for _ in range(8)]
        for entry in filler[::2]:
            await backend.release(entry.tag)

        made = await backend.compose(order(4 * UNIT, host="h2"))

        assert sum(extent.size for extent in made.ranges) == 4 * UNIT
        check_books(backend)

    async def test_devices_of_one_name_in_two_domains_are_two(self, rig):
        backend = await rig.open()
        await backend.compose(order(8 * UNIT))

        made = await backend.compose(order(2 * UNIT, host="h3", domain="d2"))

        assert made.key == ("d2", "m1")
        with pytest.raises(BadArgument):
            await backend.compose(order(host="h1", domain="d2"))

    async def test_what_was_composed_outlives_the_backend(self, rig):
        backend = await rig.open()
        kept, gone = order(), order()
        made = await backend.compose(kept)
        await backend.compose(gone)
        await backend.release(gone.tag)
        await backend.close()

        again = await rig.open()

        assert again.view().allocations == {kept.tag: made}
        assert await again.compose(kept) == made

    async def test_tells_every_change_before_the_call_returns(self, rig):
        backend = await rig.open()
        told: list[tuple[Changed, bool]] = []
        wanted = order()
        backend.subscribe(lambda changed: told.append((changed, wanted.tag in backend.view().allocations)))

        await backend.compose(wanted)
        assert told == [(Changed(tags=(wanted.tag,)), True)]
        await backend.compose(wanted)
        await backend.release(wanted.tag)
        assert told[1:] == [(Changed(tags=(wanted.tag,)), False)]

    async def test_I7_concurrent_orders_for_several_devices_never_overfill_a_host(self, rig):
        backend = await rig.open()
        await rig.break_(Faults(latency={"add": 0.05}))
        wanted = [order(5 * UNIT, host="h1", device="m1"), order(4 * UNIT, host="h1", device="m2")]

        answers = await asyncio.gather(*(backend.compose(each) for each in wanted), return_exceptions=True)

        assert sorted(type(answer).__name__ for answer in answers) == ["Allocation", "WindowFull"]
        assert len(backend.view().allocations) == 1
        check_books(backend)

    async def test_I1_concurrent_operations_keep_the_books(self, rig):
        backend = await rig.open()
        orders = [order(2 * UNIT, device="m1"), order(2 * UNIT, device="m2"), order(host="h3", domain="d2")]

        made = await asyncio.gather(*(backend.compose(each) for each in orders))
        check_books(backend)
        await asyncio.gather(*(backend.release(each.tag) for each in made))

        assert not backend.view().allocations

    async def test_a_failed_operation_leaves_nothing_behind(self, rig):
        backend = await rig.open()
        kept = await backend.compose(order())
        failures = (Failure("add", 1, "blade is busy"), Failure("remove", 1, "port is busy"))
        await rig.break_(Faults(failures=failures))

        with pytest.raises(BackendFailure, match="blade is busy"):
            await backend.compose(order())
        with pytest.raises(BackendFailure, match="port is busy"):
            await backend.release(kept.tag)
        assert backend.view().allocations == {kept.tag: kept}

        await backend.compose(order())
        await backend.release(kept.tag)

    async def test_a_device_that_is_down_gives_nothing_and_says_so(self, rig):
        backend = await rig.open()
        kept = await backend.compose(order())
        told: asyncio.Queue[Changed] = asyncio.Queue()
        backend.subscribe(told.put_nowait)
        watching = asyncio.create_task(backend.run())
        await rig.break_(Faults(devices_down={"d1/m1": "lost link"}))
        async with asyncio.timeout(30):
            first = await told.get()
        watching.cancel()

        device = backend.view().devices["d1", "m1"]
        assert first == Changed(inventory=True)
        assert (device.healthy, device.why) == (False, "lost link")
        with pytest.raises(DeviceDown, match="lost link"):
            await backend.compose(order())
        await backend.compose(order(device="m2"))
        assert kept.tag in backend.view().allocations

        await rig.break_(Faults())
        await backend.compose(order())
        assert backend.view().devices["d1", "m1"].healthy

    async def test_a_host_that_is_down_gets_nothing_but_can_be_taken_from(self, rig):
        backend = await rig.open()
        kept = await backend.compose(order(host="h1"))
        await rig.break_(Faults(hosts_down={"h1": "port is down"}))

        with pytest.raises(DeviceDown, match="port is down"):
            await backend.compose(order(host="h1"))
        await backend.compose(order(host="h2"))
        await backend.release(kept.tag)

        assert not backend.view().hosts["h1"].healthy

    async def test_a_fabric_that_does_not_answer_is_unreachable(self, rig):
        backend = await rig.open()
        kept: Allocation = await backend.compose(order())
        await rig.break_(Faults(partition=True))

        for call in (backend.refresh, lambda: backend.compose(order()), lambda: backend.release(kept.tag)):
            with pytest.raises(Unreachable):
                await call()

        await rig.break_(Faults())
        await backend.refresh()
        assert backend.view().allocations == {kept.tag: kept}
