# SPDX-License-Identifier: Apache-2.0
"""Sample capacity: the pools of well-known shapes, for `gen` and for trying things out.

Each shape is two nodes with one pool each. The name of a pool has its node in it (in the prototype both had one name,
so that applying the list kept one).
"""

from __future__ import annotations

from typing import Any

from dynamic_memory.errors import InvalidInput

__all__ = ["SHAPES", "generate"]

VERSION = "devmgmtproto.k8s.io/v1alpha1"
NODES = 2
_SIZES = {"tiny": (1, 2), "small": (1, 4), "medium": (2, 4), "large": (4, 4)}
"""NUMA nodes, and devices on each."""
SHAPES = (*(f"{model}-{size}" for model in ("foozer-1000", "foozer-4000") for size in _SIZES), "dgxa100")


def generate(shape: str) -> list[dict[str, Any]]:
    """Return the pools of a shape.

    Raises:
        InvalidInput: there is no such shape.

    """
    if shape == "dgxa100":
        return [_dgxa100(f"nvidia-{number:02}") for number in range(NODES)]
    model, _, size = shape.rpartition("-")
    if shape not in SHAPES:
        raise InvalidInput("shape", f"one of {', '.join(SHAPES)}", shape)
    return [_foozers(f"{shape}-{number:02}", model, *_SIZES[size]) for number in range(NODES)]


def _pool(node: str, base: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": VERSION,
        "kind": "DevicePool",
        "metadata": {"name": f"{node}-{base}"},
        "spec": {"nodeName": node, **spec},
    }


def _string(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "stringValue": value}


def _version(name: str, value: str) -> dict[str, Any]:
    return {"name": name, "semVerValue": value}


def _foozers(node: str, model: str, numa_nodes: int, devices: int) -> dict[str, Any]:
    return _pool(
        node,
        "foozer",
        {
            "driver": "example.com-foozer",
            "attributes": [
                _string("vendor", "example.com"),
                _string("model", model),
                _version("firmwareVersion", "1.8.2"),
                _version("driverVersion", "4.2.1-gen3"),
            ],
            "devices": [
                {"name": f"dev-{number:02}", "attributes": [_string("numa", str(number // devices))]}
                for number in range(numa_nodes * devices)
            ],
        },
    )


_COUNTERS = {
    "memory": "40Gi",
    "multiprocessors": "98",
    "copy-engines": "7",
    "decoders": "5",
    "encoders": "0",
    "jpeg-engines": "1",
    "ofa-engines": "1",
    **{f"memory-slices-{number}": "1" for number in range(8)},
}
_GPU = [
    _string("product-name", "Mock NVIDIA A100-SXM4-40GB"),
    _string("brand", "Nvidia"),
    _string("architecture", "Ampere"),
    _version("cuda-compute-capability", "8.0.0"),
    _version("driver-version", "550.54.15"),
    _version("cuda-driver-version", "12.4.0"),
]
# profile, where it may start, slices, memory, multiprocessors, copy engines, decoders, jpeg and ofa engines
_PROFILES: tuple[tuple[str, str, tuple[int, ...], int, str, int, int, int, int], ...] = (
    ("1g.5gb", "1g.5gb", tuple(range(7)), 1, "4864Mi", 14, 1, 0, 0),
    ("2g.10gb", "2g.10gb", (0, 2, 4), 2, "9856Mi", 28, 2, 1, 0),
    ("3g.20gb", "3g.20gb", (0, 4), 4, "19968Mi", 42, 3, 2, 0),
    ("4g.20gb", "4g.20gb", (0,), 4, "19968Mi", 56, 4, 2, 0),
    ("7g.40gb", "7g.40gb", (0,), 8, "40192Mi", 98, 7, 5, 1),
    ("1g.5gb+me", "1g.5gb-me", tuple(range(7)), 1, "4864Mi", 14, 1, 1, 1),
    ("1g.10gb", "1g.10gb", (0, 2, 4, 6), 2, "9856Mi", 14, 1, 1, 0),
)


def _dgxa100(node: str) -> dict[str, Any]:
    devices = [_whole(node)]
    for profile, part, starts, slices, memory, processors, copies, decoders, extras in _PROFILES:
        for start in starts:
            consumed: dict[str, Any] = {
                "memory": memory,
                "multiprocessors": str(processors),
                "copy-engines": str(copies),
            }
            if decoders:
                consumed["decoders"] = str(decoders)
            if extras:
                consumed |= {"jpeg-engines": str(extras), "ofa-engines": str(extras)}
            consumed |= {f"memory-slices-{number}": "1" for number in range(start, start + slices)}
            attributes = [_string("mig-profile", profile), *_GPU]
            devices.append(_device(f"gpu-0-mig-{part}-{start}", attributes, consumed, memory))
    return _pool(
        node,
        "dgxa100",
        {
            "driver": "gpu.nvidia.com/dra",
            "attributes": [_string("vendor", "nvidia"), _string("model", "dgxa100")],
            "sharedResources": [{"name": name, "capacity": amount} for name, amount in _COUNTERS.items()],
            "devices": devices,
        },
    )


def _whole(node: str) -> dict[str, Any]:
    own = [
        {"name": "minor", "intValue": 0},
        {"name": "index", "intValue": 0},
        _string("uuid", f"GPU-{node}-0"),
    ]
    return _device("gpu-0", [*own, *_GPU], {"memory": "40Gi"}, "40Gi")


def _device(name: str, attributes: list[dict[str, Any]], consumed: dict[str, Any], memory: str) -> dict[str, Any]:
    return {
        "name": name,
        "attributes": attributes,
        "sharedResourcesConsumed": consumed,
        "claimResourcesProvided": [{"name": "memory", "capacity": memory}],
    }
