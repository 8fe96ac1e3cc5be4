# SPDX-License-Identifier: Apache-2.0
"""A driver that holds containers of the real node to claims of the node's own memory, and a template to claim some."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from tests.cluster.support.cluster import Cluster
from tests.cluster.support.deaths import Scene, scene
from tests.cluster.support.processes import eventually

from dynamic_memory.api import names

__all__ = ["own_memory"]


@contextlib.contextmanager
def own_memory(cluster: Cluster, template: str, size: int) -> Iterator[Scene]:
    """Set the stage: the template, for `size` bytes, is in the scene's namespace, and the memory is published."""
    cluster.node.wait()
    socket = str(cluster.node.folder / "run" / "nri.sock")
    driver = {"local": {"root": "/", "rescan": "1s"}, "nri": {"socket": socket}}
    with scene(cluster, 0, nodes=[cluster.node], driver=driver) as made:
        made.world.start()
        pool = names.memory_pool(cluster.node.name)
        eventually(
            lambda: pool in {item["spec"]["pool"]["name"] for item in cluster.api.list("ResourceSlice")},
            20,
            "the node's own memory is published",
        )
        made.world.wait_registered(cluster.node.name)
        request = {"deviceClassName": "dra.memory", "capacity": {"requests": {"size": str(size)}}}
        body = {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": template},
            "spec": {"spec": {"devices": {"requests": [{"name": "mem", "exactly": request}]}}},
        }
        cluster.api.create(body, made.namespace)
        yield made
