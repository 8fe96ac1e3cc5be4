# SPDX-License-Identifier: Apache-2.0
"""What a plugin subscribes to follows from what it implements and what the runtime knows."""

from __future__ import annotations

import pytest

from dynamic_memory.nri.events import Event, Runtime, mask, version

ALL = tuple(Event)
OURS = (1, 2, 3, 4, 8, 10, 11, 12)


def runtime(name, release, nri=""):
    return Runtime(name=name, version=release, nri=nri)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("v0.12.3", (0, 12, 3)), ("2.4", (2, 4, 0)), ("v2.1.0-rc.1+k", (2, 1, 0)), ("", None), ("(devel)", None)],
)
def test_versions(text, expected):
    assert version(text) == expected


@pytest.mark.parametrize(
    ("who", "everything", "updates", "policy"),
    [
        (runtime("containerd", "v2.4.2", "v0.12.3"), 0x3FFF, True, True),
        (runtime("containerd", "v2.4.0", "v0.12.0"), 0x3FFF, False, True),
        (runtime("containerd", "v2.4.0", "(devel)"), 0x3FFF, False, True),
        (runtime("containerd", "v2.2.1"), 0x3FFF, False, False),
        (runtime("containerd", "v2.1.4"), 0x7FF, False, False),
        (runtime("containerd", "2.0.0"), 0x7FF, False, False),
        (runtime("containerd", "v1.7.20"), 0x7FF, False, False),
        (runtime("containerd", "unknown"), 0x7FF, False, False),
        (runtime("cri-o", "1.35.0"), 0x7FF, False, False),
        (runtime("cri-o", "1.36.0", "v0.12.2"), 0x3FFF, True, True),
        (runtime("", "", "v0.9.0"), 0x7FF, False, False),
    ],
    ids=str,
)
def test_what_is_asked_for_is_what_the_runtime_knows(who, everything, updates, policy):
    assert mask(ALL, who) == everything
    assert who.takes_updates is updates
    assert who.has_memory_policy is policy


def test_the_mask_of_a_memory_plugin():
    events = [Event(n) for n in OURS]
    assert mask(events, runtime("containerd", "v2.4.2", "v0.12.3")) == 0xE8F
    assert mask(events, runtime("containerd", "v2.1.0")) == 0x68F


def test_a_plugin_that_wants_nothing_does_not_get_everything():
    assert mask([], runtime("containerd", "v2.4.2", "v0.12.3")) == 1 << (Event.REMOVE_POD_SANDBOX - 1)
