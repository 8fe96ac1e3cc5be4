# SPDX-License-Identifier: Apache-2.0
"""Rows of storage: volumes, claims of volumes, classes."""

from __future__ import annotations

import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.table.columns import (
    AGE,
    NAME,
    Cell,
    Printer,
    age,
    name,
    text,
)

__all__ = ["PRINTERS"]

Object = dict[str, Any]


def _parts(obj: Object) -> tuple[Object, Object]:
    return obj.get("spec") or {}, obj.get("status") or {}


def _access_modes(modes: list[str] | None) -> str:
    short = {"ReadWriteOnce": "RWO", "ReadOnlyMany": "ROX", "ReadWriteMany": "RWX", "ReadWriteOncePod": "RWOP"}
    return ",".join(shown for mode, shown in short.items() if mode in (modes or []))


def _phase(obj: Object, status: Object) -> str:
    return "Terminating" if obj.get("metadata", {}).get("deletionTimestamp") else str(status.get("phase", ""))


def _storage_class_name(obj: Object, spec: Object) -> str:
    beta = (obj.get("metadata", {}).get("annotations") or {}).get("volume.beta.kubernetes.io/storage-class")
    return str(beta if beta is not None else spec.get("storageClassName") or "")


def _volume_claim(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    bound = bool(spec.get("volumeName"))
    return [
        name(obj),
        _phase(obj, status),
        spec.get("volumeName", ""),
        (status.get("capacity") or {}).get("storage", "0") if bound else "",
        _access_modes(status.get("accessModes")) if bound else "",
        _storage_class_name(obj, spec),
        spec.get("volumeAttributesClassName") or "<unset>",
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _volume(obj: Object, now: dt.datetime) -> list[Cell]:
    spec, status = _parts(obj)
    claim = spec.get("claimRef")
    return [
        name(obj),
        (spec.get("capacity") or {}).get("storage", "0"),
        _access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy", ""),
        _phase(obj, status),
        f"{claim.get('namespace', '')}/{claim.get('name', '')}" if claim else "",
        _storage_class_name(obj, spec),
        spec.get("volumeAttributesClassName") or "<unset>",
        status.get("reason", ""),
        age(obj, now),
        spec.get("volumeMode") or "<unset>",
    ]


def _storage_class(obj: Object, now: dt.datetime) -> list[Cell]:
    annotations = obj.get("metadata", {}).get("annotations") or {}
    default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        f"{name(obj)} (default)" if default else name(obj),
        obj.get("provisioner", ""),
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


PRINTERS = {
    ("", "PersistentVolumeClaim"): Printer(
        (
            NAME,
            text("Status", ".status.phase"),
            text("Volume", ".spec.volumeName"),
            text("Capacity", ".status.capacity"),
            text("Access Modes", ".status.accessModes"),
            text("StorageClass", "StorageClass of the pvc"),
            text("VolumeAttributesClass", "VolumeAttributesClass of the pvc"),
            AGE,
            text("VolumeMode", ".spec.volumeMode", 1),
        ),
        _volume_claim,
    ),
    ("", "PersistentVolume"): Printer(
        (
            NAME,
            text("Capacity", ".spec.capacity"),
            text("Access Modes", ".spec.accessModes"),
            text("Reclaim Policy", ".spec.persistentVolumeReclaimPolicy"),
            text("Status", ".status.phase"),
            text("Claim", ".spec.claimRef"),
            text("StorageClass", "StorageClass of the pv"),
            text("VolumeAttributesClass", "VolumeAttributesClass of the pv"),
            text("Reason", ".status.reason"),
            AGE,
            text("VolumeMode", ".spec.volumeMode", 1),
        ),
        _volume,
    ),
    ("storage.k8s.io", "StorageClass"): Printer(
        (
            NAME,
            text("Provisioner", ".provisioner"),
            text("ReclaimPolicy", ".reclaimPolicy"),
            text("VolumeBindingMode", ".volumeBindingMode"),
            text("AllowVolumeExpansion", ".allowVolumeExpansion"),
            AGE,
        ),
        _storage_class,
    ),
}
