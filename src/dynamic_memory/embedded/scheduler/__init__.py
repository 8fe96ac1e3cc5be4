# SPDX-License-Identifier: Apache-2.0
"""The scheduler of the embedded cluster: which node does a pod get, and which devices.

A decision is synchronous and made over state that events keep up to date (`nodes`, `shapes`, `claims`, the inventory of
the allocation engine); what it leads to is written by many tasks at once (`binding`). It does what the scheduler of
Kubernetes does with node resources, taints, node selectors and affinity to nodes, claims (DRA with binding conditions)
and HTTP extenders, in its words. It does not know preemption, affinity between pods, topology spread, host ports or
volumes.
"""

from dynamic_memory.embedded.scheduler.config import ExtenderConfig, SchedulerConfig
from dynamic_memory.embedded.scheduler.scheduler import Scheduler

__all__ = ["ExtenderConfig", "Scheduler", "SchedulerConfig"]
