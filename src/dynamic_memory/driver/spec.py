# SPDX-License-Identifier: Apache-2.0
"""The CDI file of a claim: what its grants become inside a container.

A container learns of what it has by environment, and, under the claim's own name, of each if it has several. Where the
claim says so it gets the memory as a file system: a tmpfs of exactly the claimed size whose pages come from the claimed
nodes (`mpol=bind`, Documentation/filesystems/tmpfs.rst). The runtime makes the mount, in the container's own namespace:
nothing of it is left on the node when the container ends. Pure.

Huge pages as files are a hugetlbfs of the claimed size and size of page (Documentation/admin-guide/mm/hugetlbpage.rst):
one page more is refused, with ENOMEM when it is mapped and with ENOSPC when it is allocated. It has no option for
nodes; the container's cpuset keeps it to them. Nor is anything reserved when it is mounted (`min_size`): such pages
would be the mount's before any cgroup counts them, and the container could map as many again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dynamic_memory.api.resource import ResourceClaim
from dynamic_memory.driver import cdi, claim_config, environment, grants
from dynamic_memory.driver.claims import ClaimShare, RefusedClaim
from dynamic_memory.driver.grants import Grant, Mode
from dynamic_memory.errors import InvalidInput
from dynamic_memory.host.interface import Region
from dynamic_memory.host.sysfs import format_list

__all__ = ["cdi_ids", "far_grant", "spec_of"]


def far_grant(claim: ResourceClaim, share: ClaimShare, region: Region | None, default: Mode) -> Grant:
    """Return the grant of a share of fabric memory.

    Args:
        claim: it is part of.
        share: of the claim.
        region: where it is online; None if it is not yet.
        default: the mode of a claim that does not choose.

    Raises:
        RefusedClaim: the claim's configuration is not one.

    """
    configs = claim.status.allocation.devices.config if claim.status.allocation else []
    try:
        config = claim_config.resolve(configs, share.request, default)
    except InvalidInput as error:
        raise RefusedClaim(f"request {share.request}: {error}") from error
    return Grant(
        request=share.request,
        pool=share.pool,
        device=share.device,
        share_id=share.tag,
        size=share.size,
        numa=region.node if region is not None else None,
        far=True,
        mode=config.mode,
        path=config.path,
    )


def cdi_ids(uid: str, given: Sequence[Grant]) -> dict[str, str]:
    """Return the CDI device of each request."""
    return {grant.request: cdi.device_id(key) for key, group in grants.by_key(uid, given).items() for grant in group}


def spec_of(
    uid: str,
    given: Sequence[Grant],
    *,
    simulated: bool,
    mounts: Mapping[str, Sequence[cdi.Mount]] | None = None,
) -> str:
    """Return the text of a claim's file.

    Args:
        uid: of the claim.
        given: its grants.
        simulated: no hardware is behind its fabric memory.
        mounts: more mounts, by request.

    """
    edits = {}
    for key, group in grants.by_key(uid, given).items():
        more = (mounts or {}).get(group[0].request, ())
        edits[key] = cdi.Edits(env=_env(key, group, simulated=simulated), mounts=(*_file_systems(group), *more))
    return cdi.render_all(edits)


def _env(key: str, group: Sequence[Grant], *, simulated: bool) -> dict[str, str]:
    own = "|".join(
        f"bytes={grant.size};numa={_text(grant.numa)};pool={grant.pool};device={grant.device};share={grant.share_id}"
        for grant in group
    )
    return {
        "DYNAMIC_MEMORY_BYTES": str(sum(grant.size for grant in group)),
        "DYNAMIC_MEMORY_NUMA_NODES": format_list(grant.numa for grant in group if grant.numa is not None),
        "DYNAMIC_MEMORY_POOL": ",".join(dict.fromkeys(grant.pool for grant in group)),
        "DYNAMIC_MEMORY_SHARE_IDS": ",".join(grant.share_id for grant in group if grant.share_id),
        "DYNAMIC_MEMORY_SIMULATED": "true" if simulated else "false",
        f"DYNAMIC_MEMORY_CLAIM_{re.sub('[-.]', '_', key)}": own,
        **environment.render(key, group),
    }


def _file_systems(group: Sequence[Grant]) -> list[cdi.Mount]:
    by_path: dict[str, list[Grant]] = {}
    for grant in group:
        if grant.path:
            by_path.setdefault(grant.path, []).append(grant)
    found = []
    for path, backing in by_path.items():
        options = ["rw", "nosuid", "nodev", f"size={sum(grant.size for grant in backing)}"]
        page = backing[0].page
        if page:
            options += [f"pagesize={page}", "mode=1777"]
            found.append(
                cdi.Mount(host_path="hugetlbfs", container_path=path, type="hugetlbfs", options=tuple(options))
            )
            continue
        nodes = format_list(grant.numa for grant in backing if grant.numa is not None)
        options += [f"mpol=bind:{nodes}"] if nodes else []
        found.append(cdi.Mount(host_path="tmpfs", container_path=path, type="tmpfs", options=tuple(options)))
    return found


def _text(numa: int | None) -> str:
    return "" if numa is None else str(numa)
