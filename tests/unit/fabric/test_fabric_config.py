# SPDX-License-Identifier: Apache-2.0
"""The configuration of the service: every mistake is found when it is read, and named."""

from __future__ import annotations

import copy

import pytest
import yaml

from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.fabric.tls import TlsFiles
from dynamic_memory.process.config import ConfigError, loads

GOOD = {
    "listen": "0.0.0.0:7443",
    "tls": {"ca": "/tls/ca.crt", "certificate": "/tls/tls.crt", "key": "/tls/tls.key"},
    "owners": [
        {"name": "c1", "nodes": {"n1": "h1", "n2": "h2"}, "pools": ["fabric/d1"]},
        {"name": "c2", "ca": "/tls/c2.crt", "nodes": {"n1": "h3"}, "pools": ["fabric/d2"]},
    ],
    "backend": {
        "simulated": {
            "state": "/var/lib/x/fabric.json",
            "latency": {"add": "1.5s", "remove": 0.25},
            "domains": [
                {
                    "name": "d1",
                    "extentSize": "192Mi",
                    "blockSize": "128Mi",
                    "devices": [{"name": "m1", "size": "768Mi", "attributes": {"latencyNs": 250, "tier": "far"}}],
                    "hosts": [
                        {"name": "h1", "window": "384Mi", "maxExtents": 2},
                        {"name": "h2", "window": "384Mi", "maxExtents": 2, "device": "port1"},
                    ],
                },
                {
                    "name": "d2",
                    "devices": [{"name": "m1", "size": "1Gi"}],
                    "hosts": [{"name": "h3", "window": "1Gi", "maxExtents": 8}],
                },
            ],
        }
    },
    "sessionLapse": "90s",
    "limits": {"watches": 10},
    "health": None,
}


def read(content):
    return loads(yaml.safe_dump(content).encode(), ServiceConfig, name="service.yaml")


def test_a_good_file_is_read_whole():
    config = read(GOOD)

    assert config.tls == TlsFiles("/tls/ca.crt", "/tls/tls.crt", "/tls/tls.key")
    assert config.authorities() == {"c1": "/tls/ca.crt", "c2": "/tls/c2.crt"}
    devices, hosts = config.backend.simulated.devices(), config.backend.simulated.hosts()
    assert [(each.key, each.total >> 20, each.unit >> 20) for each in devices] == [
        (("d1", "m1"), 768, 384),
        (("d2", "m1"), 1024, 256),
    ]
    assert [(each.name, each.device, each.window >> 20, each.max_extents) for each in hosts] == [
        ("h1", "port0", 384, 2),
        ("h2", "port1", 384, 2),
        ("h3", "port0", 1024, 8),
    ]
    assert (config.session_lapse, config.limits.watches, config.limits.operations) == (90.0, 10, 1024)
    assert config.directory().host("c2", "n1") == "h3"


DOMAIN = ("backend", "simulated", "domains", 0)
BAD = {
    "an unknown key": (("owner",), [], "unknown"),
    "an unknown key deep inside": ((*DOMAIN, "hosts", 0, "windw"), "1Gi", "unknown"),
    "no TLS on a public address": (("tls",), None, "loopback"),
    "TLS left out": (("tls",), ..., "tls"),
    "a host of two owners": (("owners", 1, "nodes", "n1"), "h1", "no other node has"),
    "a host of two nodes": (("owners", 0, "nodes", "n2"), "h1", "no other node has"),
    "a pool of two owners": (("owners", 1, "pools"), ["fabric/d1"], "no other owner has"),
    "one owner twice": (("owners", 1, "name"), "c1", "stands once"),
    "a pool of no domain": (("owners", 0, "pools"), ["fabric/d9"], "fabric/d9"),
    "a pool that is none": (("owners", 0, "pools"), ["d1"], "fabric/<domain>"),
    "a host that is not there": (("owners", 0, "nodes", "n1"), "h9", "h9"),
    "an owner that is no name": (("owners", 0, "name"), "C 1", "DNS subdomain"),
    "a node that is no name": (("owners", 0, "nodes"), {"N_1": "h1"}, "DNS subdomain"),
    "a device that is no label": ((*DOMAIN, "devices", 0, "name"), "a.b", "DNS label"),
    "a size off the unit": ((*DOMAIN, "devices", 0, "size"), "256Mi", "multiple of the unit of 402653184"),
    "a window off the unit": ((*DOMAIN, "hosts", 0, "window"), "256Mi", "window of h1"),
    "a size of nothing": ((*DOMAIN, "devices", 0, "size"), 0, "positive multiple"),
    "an extent size of nothing": ((*DOMAIN, "extentSize"), 0, "positive size in extentSize"),
    "no extents": ((*DOMAIN, "hosts", 0, "maxExtents"), 0, "at least one extent"),
    "one host twice": ((*DOMAIN, "hosts", 1, "name"), "h3", "hosts of all domains"),
    "one domain twice": (("backend", "simulated", "domains", 1, "name"), "d1", "domains"),
    "one device twice": (
        ("backend", "simulated", "domains", 1, "devices"), [{"name": "m", "size": "1Gi"}] * 2, "devices",
    ),
    "no time": (("sessionLapse",), 0, "sessionLapse"),
    "no backend": (("backend",), {}, "simulated"),
    "a latency of nothing known": (("backend", "simulated", "latency"), {"compose": 1}, "latency"),
}  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), BAD.values(), ids=BAD.keys())
def test_a_mistake_is_named(path, value, said):
    content = copy.deepcopy(GOOD)
    place = content
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value

    with pytest.raises(ConfigError, match=r"^service\.yaml") as refused:
        read(content)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("listen", "allowed"),
    [("127.0.0.1:0", True), ("[::1]:7443", True), ("localhost:7443", True), ("unix:/run/x.sock", True),
     ("127.9.9.9:1", True), ("0.0.0.0:7443", False), ("[::]:7443", False), ("10.0.0.1:7443", False),
     ("fabric.example:7443", False), ("127.0.0.1.example:7443", False)],
)  # fmt: skip
def test_without_TLS_only_loopback_and_unix_sockets_are_listened_on(listen, allowed):
    content = {**GOOD, "tls": None, "listen": listen}

    if allowed:
        assert read(content).authorities() == {}
    else:
        with pytest.raises(ConfigError, match="loopback"):
            read(content)
