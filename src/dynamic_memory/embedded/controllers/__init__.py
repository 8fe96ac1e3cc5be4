# SPDX-License-Identifier: Apache-2.0
"""The controllers of the embedded cluster: what kube-controller-manager does, as far as examples need it.

Claims (from templates, let go when pods end), workloads (Deployment, ReplicaSet, StatefulSet, DaemonSet, Job), the
life of nodes, evictions by taints of nodes and devices, pods that nobody can end. Each is level-triggered, over shared
caches.
Owner references, namespaces and service accounts are the business of the API server here.
"""

from dynamic_memory.embedded.controllers.manager import ControllerManager, ControllersConfig

__all__ = ["ControllerManager", "ControllersConfig"]
