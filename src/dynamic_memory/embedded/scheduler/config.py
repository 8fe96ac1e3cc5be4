# SPDX-License-Identifier: Apache-2.0
"""Settings of the scheduler; names and defaults are those of KubeSchedulerConfiguration."""

from __future__ import annotations

import msgspec

__all__ = ["ExtenderConfig", "SchedulerConfig"]


class ExtenderConfig(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """An HTTP extender.

    Attributes:
        url_prefix: address, to which the verbs are appended.
        filter_verb: path of filter; empty = not asked.
        prioritize_verb: path of prioritize; empty = not asked.
        bind_verb: path of bind; empty = the scheduler binds itself.
        weight: factor of its scores, 1 or more.
        http_timeout: seconds for one call.
        node_cache_capable: send and receive names of nodes, not the nodes.
        managed_resources: only pods that request one of these are sent; empty = all pods.
        ignorable: an extender that does not answer is passed over.

    """

    url_prefix: str
    filter_verb: str = ""
    prioritize_verb: str = ""
    bind_verb: str = ""
    weight: int = 1
    http_timeout: float = 5.0
    node_cache_capable: bool = False
    managed_resources: tuple[str, ...] = ()
    ignorable: bool = False


class SchedulerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the scheduler works; times in seconds.

    Attributes:
        name: pods with this `schedulerName` are ours.
        initial_backoff: wait of a pod after its first failure.
        max_backoff: longest wait.
        binding_timeout: how long devices may take to fulfil their binding conditions.
        flush_after: a pod that nothing has woken for so long is tried anyhow.
        writers: pods whose decisions are written at the same time.
        extenders: HTTP extenders, asked in order.

    """

    name: str = "default-scheduler"
    initial_backoff: float = 1.0
    max_backoff: float = 10.0
    binding_timeout: float = 600.0
    flush_after: float = 300.0
    writers: int = 32
    extenders: tuple[ExtenderConfig, ...] = ()
