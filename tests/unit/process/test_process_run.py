# SPDX-License-Identifier: Apache-2.0
"""Exit codes, signals and endpoints of a role, as real processes."""

from __future__ import annotations

import select
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

PREFIX = """
import asyncio, sys
from dynamic_memory.errors import InvalidInput, RetryError
from dynamic_memory.process import run as runner
from dynamic_memory.process.clock import sleep
from dynamic_memory.process.config import ConfigError
def say(*words): print(*words, flush=True)
"""
SUFFIX = "\nsys.exit(runner.run(main, role='test', health_address={health!r}))\n"


class Role:
    def __init__(self, source: str, health: str | None = None) -> None:
        program = PREFIX + source + SUFFIX.format(health=health)
        self.process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        readable, _, _ = select.select([self.process.stdout], [], [], 30)
        assert readable, "the role said nothing"
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        """Let it read a line."""
        self.process.stdin.write("go on\n")
        self.process.stdin.flush()

    def end(self, *signals: int) -> tuple[int, str, str]:
        for number in signals:
            self.process.send_signal(number)
            time.sleep(0.05)  # two signals sent at once are one
        out, error = self.process.communicate(timeout=30)
        return self.process.returncode, out, error


@pytest.fixture
def start():
    roles = []

    def make(source: str, health: str | None = None) -> Role:
        roles.append(Role(source, health))
        return roles[-1]

    yield make
    for role in roles:
        role.process.kill()
        role.process.communicate()


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        ("pass", 0, ""),
        ("raise RuntimeError('broken')", 1, "Traceback"),
        ("raise RetryError('no answer')", 1, "no answer"),
        (
            "raise ConfigError('driver.yaml', 7, 'fabric.address', 'expected a host and port')",
            2,
            "driver.yaml:7: fabric",
        ),
        ("raise InvalidInput('x', 'y')", 2, "x: expected y"),
        ("raise ExceptionGroup('g', [ExceptionGroup('h', [ConfigError('f', 1, 'a', 'b')])])", 2, "f:1: a: b"),
        ("raise asyncio.CancelledError", 1, ""),
    ],
)
def test_exit_codes(start, body, code, text):
    returned, _, error = start(f"async def main(p):\n    {body}").end()
    assert returned == code, error
    assert text in error


STEP = """
async def main(p):
    say("up")
    try:
        await sleep(60)
    finally:
        await sleep(0.3)
        say("undone", p.stopping.is_set())
"""


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGTERM, signal.SIGTERM)])
def test_a_signal_lets_the_step_in_hand_finish_and_exits_with_0(start, signals):
    role = start(STEP)
    assert role.line() == "up"
    code, out, error = role.end(*signals)
    assert (code, out) == (0, "undone True\n"), error


def test_a_failure_while_stopping_is_told_and_not_a_failure_of_the_role(start):
    role = start("async def main(p):\n  say('up')\n  try: await sleep(60)\n  finally: raise RetryError('lost')")
    role.line()
    code, _, error = role.end(signal.SIGTERM)
    assert code == 0
    assert "lost" in error


@pytest.mark.parametrize(
    "hang",
    [
        "while True:\n      try: await sleep(60)\n      except asyncio.CancelledError: pass",
        "import time\n    await asyncio.to_thread(time.sleep, 60)",
    ],
)
def test_a_role_that_hangs_is_ended(start, hang):
    role = start(f"runner.STOP_SECONDS = 0.5\nasync def main(p):\n    say('up')\n    {hang}")
    role.line()
    code, _, error = role.end(signal.SIGTERM)  # which waits for half a minute, and what hangs takes a whole one
    assert code == 1
    assert "did not stop" in error


ENDPOINTS = """
from dynamic_memory.process import endpoints
endpoints.LOOP_ANSWERS_WITHIN = 30
async def main(p):
    p.ready.set("api", False, "not yet")
    say(p.health_port)
    await asyncio.to_thread(sys.stdin.readline)
    p.ready.set("api", True)
    say("ready")
    await sleep(60)
"""


def get(port: str, path: str) -> tuple[int, str]:
    straight = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with straight.open(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_health_readiness_and_metrics(start):
    role = start(ENDPOINTS, health="127.0.0.1:0")
    port = role.line()
    assert get(port, "/healthz") == (200, "ok\n")
    assert get(port, "/readyz") == (503, "[-]api: not yet\n")
    role.go_on()
    assert role.line() == "ready"
    assert get(port, "/readyz") == (200, "[+]api\n")
    assert "python_info" in get(port, "/metrics")[1]
    assert get(port, "/other")[0] == 404
    assert role.end(signal.SIGTERM)[0] == 0


def test_a_bad_health_address_is_bad_configuration(start):
    code, _, error = start("async def main(p): pass", health="localhost").end()
    assert (code, "expected an address such as" in error) == (2, True)


def test_a_role_whose_event_loop_hangs_is_not_healthy(start):
    role = start("import time\nasync def main(p):\n  say(p.health_port)\n  time.sleep(30)", health="127.0.0.1:0")
    port = role.line()
    status, text = get(port, "/healthz")
    assert (status, text) == (503, "the event loop does not answer\n")
    role.process.kill()


def test_an_address_that_is_taken_is_bad_configuration(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, _, error = start("async def main(p): pass", health=address).end()
    assert (code, "Address already in use" in error) == (2, True)
