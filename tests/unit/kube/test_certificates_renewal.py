# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import asyncio

import pytest

from dynamic_memory.kube import certificates
from dynamic_memory.kube.certificates import CertificateDenied, CertificateTimeout, Files, keep_fresh
from dynamic_memory.process import clock

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

DAY = 24 * 3600.0


class Authority:
    """Stands for `obtain`: certificates of a day; the next answers can be failures."""

    def __init__(self, monkeypatch, path) -> None:
        self.path = path
        self.failures: list[Exception] = []
        self.asked: list[tuple[float, bool]] = []
        monkeypatch.setattr(certificates, "obtain", self.obtain)

    async def obtain(self, *_, renew, **__):
        self.asked.append((clock.monotonic(), renew))
        if self.failures:
            raise self.failures.pop(0)
        now = clock.monotonic()
        return Files(ca=self.path, certificate=self.path, key=self.path, not_before=now, not_after=now + DAY)

    async def run(self, seconds):
        began = clock.monotonic()
        task = asyncio.create_task(keep_fresh(None, "x", directory=self.path, namespace="dm", now=clock.monotonic))
        await clock.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [(at - began, renew) for at, renew in self.asked]


async def test_a_certificate_is_renewed_at_two_thirds_of_its_life_again_and_again(monkeypatch, tmp_path):
    asked = await Authority(monkeypatch, tmp_path).run(1.9 * DAY)
    assert [(round(at / 3600), renew) for at, renew in asked] == [(0, False), (16, True), (32, True)]


async def test_failures_are_tried_again_while_the_old_certificate_is_good(monkeypatch, tmp_path):
    authority = Authority(monkeypatch, tmp_path)
    authority.failures = [CertificateTimeout("csr", 1.0), CertificateDenied("csr", "WrongNode", "No.")]
    asked = await authority.run(600)
    assert [renew for _, renew in asked] == [False, False, False]
    assert asked[-1][0] < 10


async def test_a_machine_that_has_no_room_is_waited_out(monkeypatch, tmp_path):
    """For the files, or for the child process that makes the key: the role that needs the certificate goes on."""
    authority = Authority(monkeypatch, tmp_path)
    authority.failures = [OSError(28, "No space left on device"), BlockingIOError(11, "fork failed")]
    asked = await authority.run(600)
    assert [renew for _, renew in asked] == [False, False, False]
