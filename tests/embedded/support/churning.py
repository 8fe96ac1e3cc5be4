# SPDX-License-Identifier: Apache-2.0
"""Config maps and pods that are made, changed and deleted all the time, and what followers of them must have seen.

There is one writer, which waits for each answer: so the answers in their order are what every watch has to deliver, and
the audit log has to have the same writes.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import json
import random
from pathlib import Path
from typing import Any

from tests.embedded.support.client import Client

__all__ = ["RESOURCES", "Change", "Churn", "audited", "churn"]

RESOURCES = ("configmaps", "pods")
NAMES = 12
"""Objects of a resource at most: few, so that each lives, changes and dies often."""
GONE = {"gracePeriodSeconds": 0}
WRITES = {"ADDED": "create", "MODIFIED": "patch", "DELETED": "delete"}


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What a watch says of a change; of deletions the answer to the writer has no version."""

    kind: str
    name: str
    version: str

    @classmethod
    def seen(cls, kind: str, metadata: dict[str, Any]) -> Change:
        """Return the change that an event is, comparable with what the writer knows."""
        return cls(kind, metadata["name"], "" if kind == "DELETED" else metadata["resourceVersion"])


class Churn:
    """What was written: `changes` by resource, in order."""

    def __init__(self, seed: int = 0) -> None:
        self.changes: dict[str, list[Change]] = {resource: [] for resource in RESOURCES}
        self.random = random.Random(seed)
        self.alive: dict[str, set[str]] = {resource: set() for resource in RESOURCES}
        self.number = 0

    @property
    def living(self) -> dict[str, dict[str, str]]:
        """The versions of what there is now, by resource and name."""
        last = {resource: {change.name: change for change in found} for resource, found in self.changes.items()}
        return {
            resource: {name: change.version for name, change in found.items() if change.kind != "DELETED"}
            for resource, found in last.items()
        }

    def counts(self) -> dict[tuple[str, str], int]:
        """Return how many writes there were, by verb and resource."""
        return dict(
            collections.Counter(
                (WRITES[change.kind], resource) for resource, found in self.changes.items() for change in found
            )
        )

    async def write(self, client: Client) -> None:
        """Write once: a name that is free is created, one that is taken is changed or deleted."""
        resource = self.random.choice(RESOURCES)
        name = f"churn-{self.random.randrange(NAMES)}"
        self.number += 1
        path = f"/api/v1/namespaces/default/{resource}"
        if name not in self.alive[resource]:
            await self._create(client, resource, path, name)
        elif self.random.random() < 1 / 3:
            answer = await client.delete(f"{path}/{name}", GONE)
            assert answer.code == 200, answer
            self.alive[resource].discard(name)
            self.changes[resource].append(Change("DELETED", name, ""))
        else:
            patch = {"metadata": {"annotations": {"churn": str(self.number)}}}
            answer = await client.patch(f"{path}/{name}", patch)
            assert answer.code == 200, answer
            self.changes[resource].append(Change.seen("MODIFIED", answer.json["metadata"]))

    async def _create(self, client: Client, resource: str, path: str, name: str) -> None:
        body: dict[str, Any] = {"metadata": {"name": name}}
        if resource == "pods":
            body["spec"] = {"containers": [{"name": "c", "image": "i"}]}
        else:
            body["data"] = {"number": str(self.number), "text": "x" * self.random.randrange(2000)}
        answer = await client.create(path, body)
        assert answer.code == 201, answer
        self.alive[resource].add(name)
        self.changes[resource].append(Change.seen("ADDED", answer.json["metadata"]))


async def churn(client: Client, seconds: float, pause: float, found: Churn | None = None) -> Churn:
    """Write for a time, with a pause after each write; go on with `found` if given."""
    found = found or Churn()
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        await found.write(client)
        await asyncio.sleep(pause)
    return found


def audited(path: Path) -> dict[str, dict[tuple[str, str], int]]:
    """Return what the audit log says of each client: how many requests, by verb and resource.

    Clients go by the first word of their user agents. Only config maps and pods count, and only answers without errors.
    """
    found: dict[str, collections.Counter[tuple[str, str]]] = collections.defaultdict(collections.Counter)
    for text in path.read_text().splitlines(keepends=True):
        if not text.endswith("\n"):
            break  # the server is at it
        line = json.loads(text)
        assert "droppedBefore" not in line, "the audit log has gaps"
        if line.get("resource") in RESOURCES and line["code"] < 300:
            agent = line.get("userAgent", "").partition("/")[0]
            found[agent][line["verb"], line["resource"]] += 1
    return {agent: dict(counts) for agent, counts in found.items()}
