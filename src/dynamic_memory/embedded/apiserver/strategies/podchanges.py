# SPDX-License-Identifier: Apache-2.0
"""What may change of a pod that exists: by an update, by a resize, and of its ephemeral containers. Pure.

Source: `ValidatePodUpdate`, `ValidatePodResize` and `ValidatePodEphemeralContainersUpdate` of Kubernetes 1.37.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.schema import clone
from dynamic_memory.embedded.apiserver.strategies.podspec import check_tolerations
from dynamic_memory.embedded.apiserver.strategies.resources import qos_class

__all__ = ["check_change", "check_ephemeral", "check_resize"]

_RESIZABLE: Final = ("cpu", "memory")
_MIRROR: Final = "kubernetes.io/config.mirror"
_UPDATABLE: Final = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
MAX_SECONDS: Final = 2**31 - 1

Object = dict[str, Any]


def check_change(spec: Object, old: Object) -> list[Cause]:
    """Check an ordinary update: images, deadline, tolerations and gates may change."""
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(old.get(kind) or ()):
            return [fields.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")]
    deadline, stop = _deadline(spec.get("activeDeadlineSeconds"), old.get("activeDeadlineSeconds"))
    if stop:
        return deadline
    causes = [*deadline, *_added_tolerations(spec.get("tolerations") or [], old.get("tolerations") or [])]
    gates = {gate.get("name") for gate in old.get("schedulingGates") or ()}
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        if gate.get("name") not in gates:
            text = f"only deletion is allowed, but found new scheduling gate '{gate.get('name')}'"
            causes.append(fields.forbidden(f"spec.schedulingGates[{index}].name", text))
    if gates:
        causes += list(_gated(spec, old))
    munged = _without_updatable(spec, old, gated=bool(gates))
    if munged != old:
        text = f"pod updates may not change fields other than {_UPDATABLE}\n{_difference(munged, old)}"
        causes.append(fields.forbidden("spec", text))
    return causes


def _deadline(deadline: int | None, old: int | None) -> tuple[list[Cause], bool]:
    """Check activeDeadlineSeconds, and say whether that is all there is to say."""
    path = "spec.activeDeadlineSeconds"
    if deadline is not None and not 0 <= deadline <= MAX_SECONDS:
        return [fields.invalid(path, deadline, f"must be between 0 and {MAX_SECONDS}, inclusive")], True
    if deadline is not None and old is not None and old < deadline:
        return [fields.invalid(path, deadline, "must be less than or equal to previous value")], True
    if deadline is None and old is not None:
        return [fields.invalid(path, None, "must not update from a positive integer to nil value")], False
    return [], False


def _without_updatable(spec: Object, old: Object, *, gated: bool) -> Object:
    """Return the new spec with what may change as it was."""
    munged: Object = clone(spec)
    for kind in ("containers", "initContainers"):
        for container, known in zip(munged.get(kind) or (), old.get(kind) or (), strict=True):
            container["image"] = known.get("image")
    same = ["activeDeadlineSeconds", "schedulingGates", "tolerations"]
    if gated:
        same += ["nodeSelector", "affinity"]
    if (old.get("terminationGracePeriodSeconds") or 0) < 0 and spec.get("terminationGracePeriodSeconds") == 1:
        same.append("terminationGracePeriodSeconds")
    for name in same:
        munged.pop(name, None)
        if name in old:
            munged[name] = old[name]
    return munged


def _gated(spec: Object, old: Object) -> Iterable[Cause]:
    """Check that a gated pod's node selector only grows."""
    selector, before = spec.get("nodeSelector") or {}, old.get("nodeSelector") or {}
    if any(selector.get(name) != value for name, value in before.items()):
        yield fields.invalid("spec.nodeSelector", selector, "only additions are allowed (no mutations or deletions)")


def _difference(new: Any, old: Any, path: str = "spec") -> str:
    """Return the fields that differ, one a line."""
    if isinstance(new, dict) and isinstance(old, dict):
        lines = [
            _difference(new.get(name), old.get(name), f"{path}.{name}")
            for name in sorted(new.keys() | old.keys())
            if new.get(name) != old.get(name)
        ]
        return "\n".join(lines)
    if isinstance(new, list) and isinstance(old, list) and len(new) == len(old):
        lines = [
            _difference(one, other, f"{path}[{index}]")
            for index, (one, other) in enumerate(zip(new, old, strict=True))
            if one != other
        ]
        return "\n".join(lines)
    return f"  {path}: -{fields.shown(old)} +{fields.shown(new)}"


def _added_tolerations(new: list[Mapping[str, Any]], old: list[Mapping[str, Any]]) -> list[Cause]:
    bare = [_without_seconds(one) for one in new]
    if any(_without_seconds(known) not in bare for known in old):
        text = "existing toleration can not be modified except its tolerationSeconds"
        return [fields.forbidden("spec.tolerations", text)]
    return check_tolerations(new, "spec.tolerations")


def _without_seconds(toleration: Mapping[str, Any]) -> Object:
    return {name: value for name, value in toleration.items() if name != "tolerationSeconds"}


def check_ephemeral(spec: Object, old: Object) -> Iterable[Cause]:
    """Check that ephemeral containers were only added."""
    path = "spec.ephemeralContainers"
    known = {container.get("name"): container for container in spec.get("ephemeralContainers") or ()}
    for before in old.get("ephemeralContainers") or ():
        name = before.get("name")
        if name not in known:
            yield fields.forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n')
        elif known[name] != before:
            text = f'existing ephemeral containers "{name}" may not be changed\n{_difference(known[name], before)}'
            yield fields.forbidden(path, text)


def check_resize(new: Object, old: Object) -> list[Cause]:
    """Check that only cpu and memory of containers changed, and the QoS class did not."""
    spec, before = new["spec"], old["spec"]
    if _MIRROR in (old["metadata"].get("annotations") or {}):
        return [fields.forbidden("", "static pods cannot be resized")]
    causes = []
    if qos_class(spec) != qos_class(before):
        quality = (new.get("status") or {}).get("qosClass", "")
        text = "Pod QOS Class may not change as a result of resizing"
        causes.append(fields.invalid("spec", quality, text))
    order = list(_same_containers(spec, before))
    if order:
        return causes + order
    munged: Object = clone(spec)
    for kind in ("initContainers", "containers"):
        for index, known in enumerate(before.get(kind) or ()):
            causes += _resized(munged[kind][index], known, kind, index)
    if causes:
        return causes
    if "resources" in before or "resources" in munged:
        munged["resources"] = before.get("resources") or {}
        before = {**before, "resources": before.get("resources") or {}}
    if munged != before:
        causes.append(fields.forbidden("spec", "only cpu and memory resources are mutable"))
    return causes


def _resized(container: Object, known: Object, kind: str, index: int) -> Iterable[Cause]:
    """Check one container, and give it the cpu and memory that it had."""
    path = f"spec.{kind}[{index}]"
    yield from _removed(container.get("resources") or {}, known.get("resources") or {}, f"{path}.resources")
    changed = container != known
    _put_back(container, known)
    if container != known:
        if kind == "containers":
            yield fields.forbidden("spec", "only cpu and memory resources are mutable")
        else:
            text = "only cpu and memory resources for init or sidecar containers are mutable"
            yield fields.forbidden(path, text)
    elif changed and kind == "initContainers" and known.get("restartPolicy") != "Always":
        yield fields.forbidden("spec", "resources for non-sidecar init containers are immutable")


def _same_containers(spec: Object, old: Object) -> Iterable[Cause]:
    for kind in ("containers", "initContainers"):
        new_ones, old_ones = spec.get(kind) or (), old.get(kind) or ()
        if len(new_ones) != len(old_ones):
            yield fields.forbidden(f"spec.{kind}", f"{kind} may not be added or removed on resize")
            continue
        for index, (one, other) in enumerate(zip(new_ones, old_ones, strict=True)):
            if one.get("name") != other.get("name"):
                text = f"{kind} may not be renamed or reordered on resize"
                yield fields.forbidden(f"spec.{kind}[{index}].name", text)


def _removed(new: Object, old: Object, path: str) -> Iterable[Cause]:
    for part in ("requests", "limits"):
        if set(old.get(part) or ()) - set(new.get(part) or ()):
            yield fields.forbidden(f"{path}.{part}", f"resource {part} cannot be removed")


def _put_back(container: Object, known: Object) -> None:
    """Give a container the cpu and memory that it had."""
    resources, before = container.get("resources") or {}, known.get("resources") or {}
    for part in ("requests", "limits"):
        amounts = {name: value for name, value in (resources.get(part) or {}).items() if name not in _RESIZABLE}
        amounts |= {name: value for name, value in (before.get(part) or {}).items() if name in _RESIZABLE}
        if amounts:
            resources[part] = amounts
        else:
            resources.pop(part, None)
    if "resources" in known or resources:
        container["resources"] = resources
