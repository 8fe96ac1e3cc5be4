# SPDX-License-Identifier: Apache-2.0
"""The tables of field numbers, parsed: what a message of a package looks like. Each is parsed when it is first met."""

from __future__ import annotations

import dataclasses
import functools
import re

from dynamic_memory.embedded.apiserver.protobuf import group_numbers as groups
from dynamic_memory.embedded.apiserver.protobuf.core_numbers import CORE

__all__ = ["Field", "Message", "message", "package_of"]

# A message is looked for in its own package, then in these.
SHARED = ("core/v1", "meta/v1")

TABLES = {
    "core/v1": CORE,
    "meta/v1": groups.META,
    "apps/v1": groups.APPS,
    "batch/v1": groups.BATCH,
    "rbac.authorization.k8s.io/v1": groups.RBAC,
    "policy/v1": groups.POLICY,
    "autoscaling/v1": groups.AUTOSCALING_V1,
    "autoscaling/v2": groups.AUTOSCALING_V2,
    "authorization.k8s.io/v1": groups.AUTHORIZATION,
    "authentication.k8s.io/v1": groups.AUTHENTICATION,
    "coordination.k8s.io/v1": groups.COORDINATION,
    "events.k8s.io/v1": groups.EVENTS,
    "networking.k8s.io/v1": groups.NETWORKING,
    "scheduling.k8s.io/v1": groups.SCHEDULING,
}

_FIELD = re.compile(r"(\w*)=(\d+)([*%?!^]?)(\w*)")


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """One field: its name in JSON, mark (`*`, `%`, `?`, `!`, `^` or none) and type, as the tables explain."""

    name: str
    mark: str
    type: str


@dataclasses.dataclass(frozen=True, slots=True)
class Message:
    """A message: where its types are looked for, and its fields by number."""

    package: str
    name: str
    fields: dict[int, Field]


def package_of(api_version: str) -> str:
    """Return the package that the kinds of an apiVersion are in."""
    return f"core/{api_version}" if "/" not in api_version else api_version


@functools.cache
def _lines(package: str) -> dict[str, str]:
    """Return the text of each message of a package; lines that start with a space go on."""
    found: dict[str, str] = {}
    name = ""
    for line in TABLES[package].splitlines():
        if line.startswith(" "):
            found[name] += line
        else:
            name, _, found[name] = line.partition(" ")
    return found


@functools.cache
def message(package: str, name: str) -> Message | None:
    """Return a message of a package or of those that all share; None when the tables do not have it."""
    for place in (package, *SHARED):
        if place in TABLES and name in _lines(place):
            entries = _FIELD.findall(_lines(place)[name])
            return Message(place, name, {int(number): Field(key, mark, kind) for key, number, mark, kind in entries})
    return None
