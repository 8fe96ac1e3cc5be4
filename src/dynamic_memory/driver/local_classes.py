# SPDX-License-Identifier: Apache-2.0
"""The DeviceClasses by which users ask for a node's own memory: one for each size of page. Pure."""

from __future__ import annotations

from typing import Any

from dynamic_memory.api import names
from dynamic_memory.driver.grants import page_text
from dynamic_memory.host.topology import Topology

__all__ = ["device_class", "device_classes"]


def device_class(page: str, *, huge: bool) -> dict[str, Any]:
    """Return the class for a size of page (`4Ki`, `2Mi`); ordinary memory is asked for whatever its pages are."""
    domain = f'device.attributes["{names.DRIVER}"]'
    huge_text = "true" if huge else "false"
    terms = [
        f'device.driver == "{names.DRIVER}"',
        f'{domain}.kind == "{names.DeviceKind.LOCAL}"',
        f'device.attributes["resource.kubernetes.io"].hugeTLB == {huge_text}',
        *([f'{domain}.pageSize == "{page}"'] if huge else []),
        "device.allowMultipleAllocations == true",
    ]
    return {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "DeviceClass",
        "metadata": {"name": names.class_of_page(page) if huge else names.CLASS_MEMORY},
        "spec": {"selectors": [{"cel": {"expression": " && ".join(terms)}}]},
    }


def device_classes(topology: Topology) -> list[dict[str, Any]]:
    """Return the classes for a machine."""
    ordinary = device_class(page_text(topology.base_page), huge=False)
    return [ordinary, *(device_class(page_text(page), huge=True) for page in topology.huge_pages)]
