# SPDX-License-Identifier: Apache-2.0
"""A configuration that does not fit is refused with file, line, setting and what was expected."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from dynamic_memory.errors import InvalidInput
from dynamic_memory.process.config import MAX_SIZE, Bytes, ConfigError, Seconds, load, loads


class Fabric(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    timeout: Seconds = Seconds(5)


class Host(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    memory: Bytes = Bytes(0)


class Config(msgspec.Struct, forbid_unknown_fields=True):
    fabric: Fabric
    hosts: list[Host] = []
    labels: dict[str, str] = {}
    state: Path = Path("/var/lib")
    health: str | None = None


GOOD = b"""
fabric:
  address: 127.0.0.1:1  # where
  timeout: 1.5s
hosts:
- {name: a, memory: 512Mi}
- name: b
  memory: 1024
state: /srv
"""


def test_a_good_file(tmp_path):
    file = tmp_path / "role.yaml"
    file.write_bytes(GOOD)
    config = load(file, Config)
    assert config.fabric == Fabric("127.0.0.1:1", Seconds(1.5))
    assert [host.memory for host in config.hosts] == [512 << 20, 1024]
    assert config.state == Path("/srv")


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("1h", 3600), ("250ms", 0.25), ("7", 7), ("0.5", 0.5), ("2s", 2)]
)
def test_times(text, seconds):
    assert loads(f"fabric: {{address: a, timeout: {text}}}".encode(), Config).fabric.timeout == seconds


@pytest.mark.parametrize(
    ("text", "line", "path", "expected"),
    [
        ("fabrik: {}\nfabric: {address: a}", 1, "fabrik", "unknown"),
        ("fabric:\n  address: a\n  adress: b", 3, "fabric.adress", "unknown"),
        ("fabric:\n  address: 7", 2, "fabric.address", "expected `str`, got `int`"),
        ("fabric:\n  timeout: 1s", 1, "fabric", "missing required field `address`"),
        ("", 1, "", "missing required field `fabric`"),
        ("fabric:\n  address: a\n  timeout: soon", 3, "fabric.timeout", "a time such as 1.5s or 10m, got 'soon'"),
        ("fabric:\n  address: a\n  timeout: -1", 3, "fabric.timeout", "a time"),
        ("fabric:\n  address: a\n  timeout: true", 3, "fabric.timeout", "a time"),
        ("fabric: {address: a}\nhosts:\n- name: a\n- name: b\n  memory: 1Q", 5, "hosts[1].memory", "512Mi, got '1Q'"),
        ("fabric: {address: a}\nhosts:\n- name: a\n  memory: true", 4, "hosts[0].memory", "a size"),
        ("fabric: {address: a}\nhosts:\n- nme: a", 3, "hosts[0].nme", "unknown"),
        ("fabric: {address: a}\nlabels: {a: 1}", 2, "labels[...]", "expected `str`"),
        ("fabric: {address: a}\nstate: 5", 2, "state", "a path"),
        ("fabric: {address: a}\nhealth: [1]", 2, "health", "expected `str | null`"),
        ("fabric: {address: a}\nfabric: {address: b}", 2, "fabric", "each key once"),
        ("fabric:\n  address: a\n  address: b", 3, "address", "each key once"),
        ("fabric: [", 1, "", "expected YAML"),
        ("a: b: c", 1, "", "expected YAML"),
        ("fabric: !!python/object:os.system {}", 1, "", "expected YAML"),
        ("- a", 1, "", "expected `object`, got `array`"),
        ("just text", 1, "", "expected `object`, got `str`"),
    ],
)
def test_what_is_refused(text, line, path, expected):
    with pytest.raises(ConfigError) as caught:
        loads(text.encode(), Config, name="role.yaml")
    assert (caught.value.line, caught.value.path) == (line, path)
    assert expected in str(caught.value)
    assert str(caught.value).startswith(f"role.yaml:{line}: ")
    assert isinstance(caught.value, InvalidInput)


def test_a_missing_file_and_a_huge_one(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load(tmp_path / "none.yaml", Config)
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load(tmp_path, Config)
    with pytest.raises(ConfigError, match="at most"):
        loads(b" " * (MAX_SIZE + 1), Config)


def test_anchors_are_not_repeated_keys():
    text = b"fabric: &f {address: a}\nhosts: []\nlabels: {}\n"
    assert loads(text, Config).fabric.address == "a"
    shared = b"fabric: {address: a}\nhosts: [&h {name: x}, *h]\n"
    assert [host.name for host in loads(shared, Config).hosts] == ["x", "x"]
