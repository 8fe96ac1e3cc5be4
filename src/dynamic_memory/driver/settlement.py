# SPDX-License-Identifier: Apache-2.0
"""From the record of a prepared claim to what its containers must get: one `Settings` for each CDI device.

The record alone decides, so that the same comes out after a restart. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dynamic_memory.driver import cdi, environment, grants
from dynamic_memory.driver.grants import Grant
from dynamic_memory.driver.records import ClaimRecord
from dynamic_memory.driver.settings import Mode, Settings

__all__ = ["hugetlb_name", "settings_of"]

SIZES = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
STRICTEST = (Mode.PROTECT, Mode.LIMIT, Mode.ADVISE)


def settings_of(record: ClaimRecord) -> tuple[Settings, ...]:
    """Return what each CDI device of a claim gives; nothing for a claim that is not prepared, or that nobody owns."""
    if record.prepared is None or record.owner is None:
        return ()
    return tuple(
        _settings(record, record.owner, key, group)
        for key, group in grants.by_key(record.uid, record.prepared.grants).items()
    )


def hugetlb_name(page: int) -> str:
    """Return the size of a huge page as cgroup files and NRI have it: `2MB`, `1GB`, `64KB`."""
    for unit, name in SIZES:
        if page >= unit and page % unit == 0:
            return f"{page // unit}{name}"
    return f"{page}B"


def _settings(record: ClaimRecord, owner: grants.Owner, key: str, group: Sequence[Grant]) -> Settings:
    ordinary = [grant for grant in group if not grant.page]
    huge = [grant for grant in group if grant.page]
    hugepages: dict[str, int] = {}
    for grant in huge:
        name = hugetlb_name(grant.page)
        hugepages[name] = hugepages.get(name, 0) + grant.size
    request = group[0].request
    containers = (*owner.containers.get("", ()), *owner.containers.get(request, ()))
    return Settings(
        device=cdi.device_name(key),
        claim=record.uid,
        pod=owner.uid,
        containers=tuple(dict.fromkeys(containers)),
        nodes=_nodes(ordinary),
        far=_nodes(grant for grant in ordinary if grant.far),
        memory=sum(grant.size for grant in ordinary),
        mode=min((grant.mode for grant in ordinary), key=STRICTEST.index, default=Mode.ADVISE),
        hugepages=hugepages,
        hugepage_nodes=_nodes(huge),
        env=environment.render(key, group),
    )


def _nodes(given: Iterable[Grant]) -> tuple[int, ...]:
    return tuple(sorted({grant.numa for grant in given if grant.numa is not None}))
