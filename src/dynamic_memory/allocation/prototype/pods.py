# SPDX-License-Identifier: Apache-2.0
"""The claims of a pod, in all the forms that were ever written (P1 to P11 of docs/prototype.md).

A form says which claims a pod uses: one that exists, or one that is to be made for it, of a class, of a claim used as a
template, or of a template. Whatever the form, the answer is a list of `ClaimUse`. A claim that is to be made has a name
that follows from the pod, so that it is found again by the next run. What containers refer to is checked here as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from dynamic_memory.allocation.prototype.documents import Document
from dynamic_memory.allocation.prototype.errors import UnknownName
from dynamic_memory.allocation.prototype.loader import Loader
from dynamic_memory.allocation.prototype.types import (
    GROUP,
    DeviceClaim,
    DevicePrivilegedClaim,
    DeviceSetClaim,
)
from dynamic_memory.allocation.prototype.world import World, key_of
from dynamic_memory.api import resource
from dynamic_memory.api.meta import ObjectMeta

__all__ = ["AnyClaim", "ClaimUse", "claims_of"]

AnyClaim = DeviceClaim | DeviceSetClaim | DevicePrivilegedClaim | resource.ResourceClaim

VERSION = f"{GROUP}/v1alpha1"
MAX_CLAIMS = 128
EXTENDED_BY_CLASS = "deviceclass.resource.kubernetes.io/"


class ClaimUse(NamedTuple):
    """A claim that a pod uses.

    Attributes:
        form: P1 to P11.
        entry: the name of the entry in the pod, by which containers may refer to it; empty if there is none.
        claim: the claim itself.
        made: it is to be made for this pod, and does not exist yet.
        group: the PodGroup that it is for; empty if it is for the pod.

    """

    form: str
    entry: str
    claim: AnyClaim
    made: bool = False
    group: str = ""


def claims_of(pod: Document, world: World) -> list[ClaimUse]:
    """Return the claims of a pod in order.

    Raises:
        DocumentError: the pod is not valid, or a container refers to what is not there.
        UnknownName: it refers to a claim, template or class that does not exist.

    """
    reader = _Reader(pod, world)
    uses = [*reader.of_devices(), *reader.of_resources(), *reader.of_extended()]
    if len(uses) > MAX_CLAIMS:
        raise pod.error("spec", f"at most {MAX_CLAIMS} claims", len(uses))
    reader.check_containers(uses)
    return uses


class _Reader:
    """Reads one pod."""

    def __init__(self, pod: Document, world: World) -> None:
        self._pod = pod
        self._world = world
        self._namespace, self._name = key_of(pod.body)
        self._spec = self._mapping(pod.body, "spec", "")

    # --- pod.spec.deviceClaims

    def of_devices(self) -> Iterator[ClaimUse]:
        """P3, P4, P5 (an object), P6 and P7 (a list)."""
        source = self._spec.get("deviceClaims")
        if source is None:
            return
        path = "spec.deviceClaims"
        if isinstance(source, list):
            for index, entry in enumerate(source):
                yield self._listed(self._checked(entry, f"{path}[{index}]"), f"{path}[{index}]")
            return
        source = self._checked(source, path)
        form = self._only(source, ("devices", "claimName", "template"), path)
        if form == "claimName":
            yield ClaimUse("P4", "", self._claim(source["claimName"], f"{path}.claimName"))
        elif form == "template":
            template = self._mapping(source, "template", path)
            yield self._copied("P5", "", template, f"{path}.template")
        else:
            for index, entry in enumerate(self._list(source, "devices", path)):
                place = f"{path}.devices[{index}]"
                entry = self._checked(entry, place)  # noqa: PLW2901 - the same, checked
                name = self._text(entry, "name", place)
                yield self._of_class("P3", "", name, self._text(entry, "class", place), metadata={}, path=place)

    def _listed(self, entry: dict[str, Any], path: str) -> ClaimUse:  # noqa: PLR0911 - one return a form
        name = self._text(entry, "name", path)
        if "source" not in entry:
            form = self._only(entry, ("claim", "claimName", "claimTemplateName"), path)
            if form == "claim":
                body = self._mapping(entry, "claim", path)
                return self._make("P7", name, name, body, metadata={}, path=f"{path}.claim")
            place = f"{path}.{form}"
            if form == "claimName":
                return ClaimUse("P7", name, self._claim(entry[form], place))
            return self._from_template("P7", name, entry[form], place)
        source = self._mapping(entry, "source", path)
        path = f"{path}.source"
        form = self._only(source, ("deviceClaimName", "templateClass", "templateClaim", "generator"), path)
        place = f"{path}.{form}"
        if form == "deviceClaimName":
            return ClaimUse("P6", name, self._claim(source[form], place))
        body = self._mapping(source, form, path)
        metadata = body.get("metadata") or {}
        if form == "templateClass":
            return self._of_class("P6", name, name, self._text(body, "className", place), metadata=metadata, path=place)
        if form == "templateClaim":
            return self._copied("P6", name, body, place)
        return self._generated(name, body, place)

    def _generated(self, name: str, body: dict[str, Any], path: str) -> ClaimUse:
        """The claim's spec stands in the status of another object."""
        reference = self._mapping(body, "generatorRef", path)
        version = self._text(reference, "apiVersion", f"{path}.generatorRef")
        kind = self._text(reference, "kind", f"{path}.generatorRef")
        called = self._text(reference, "name", f"{path}.generatorRef")
        generator = self._world.configs.get((version, kind, self._namespace, called))
        if generator is None:
            raise UnknownName(f"{path}.generatorRef", f"a {kind} in namespace {self._namespace}", called)
        status = generator.get("status")
        spec = status.get("claimSpec") if isinstance(status, dict) else None
        if not isinstance(spec, dict):
            raise self._pod.error(f"{path}.generatorRef", f"a {kind} with status.claimSpec", called)
        return self._make("P6", name, name, spec, metadata=body.get("metadata") or {}, path=path)

    # --- pod.spec.resourceClaims

    def of_resources(self) -> Iterator[ClaimUse]:
        """P1, P2 (with a source), P8, P9 (without), P11 (the same, matched by a PodGroup)."""
        claims = self._spec.get("resourceClaims")
        if claims is None:
            return
        shared = self._group_claims()
        for index, entry in enumerate(self._list(self._spec, "resourceClaims", "spec")):
            path = f"spec.resourceClaims[{index}]"
            entry = self._checked(entry, path)  # noqa: PLW2901 - the same, checked
            name = self._text(entry, "name", path)
            source, old = (self._mapping(entry, "source", path), True) if "source" in entry else (entry, False)
            form = self._only(source, ("resourceClaimName", "resourceClaimTemplateName"), path)
            value = self._text(source, form, path)
            group = shared.get((name, form, value), "")
            if form == "resourceClaimName":
                label = "P11" if group else "P1" if old else "P8"
                yield ClaimUse(label, name, self._any_claim(value, f"{path}.{form}"), group=group)
            else:
                label = "P11" if group else "P2" if old else "P8"
                owner = group or self._name
                yield self._from_template(label, name, value, f"{path}.{form}", owner=owner)._replace(group=group)

    def _group_claims(self) -> dict[tuple[str, str, str], str]:
        """Return the entries that the pod's group has in the same words, with the name of the group."""
        place = self._spec.get("schedulingGroup")
        if place is None:
            return {}
        name = self._text(self._mapping(self._spec, "schedulingGroup", "spec"), "podGroupName", "spec.schedulingGroup")
        group = self._world.groups.get((self._namespace, name))
        if group is None:
            raise UnknownName("spec.schedulingGroup.podGroupName", f"a PodGroup in {self._namespace}", name)
        spec = group.get("spec")
        entries = spec.get("resourceClaims") if isinstance(spec, dict) else None
        found = {}
        for entry in entries if isinstance(entries, list) else []:
            for form in ("resourceClaimName", "resourceClaimTemplateName"):
                if isinstance(entry, dict) and form in entry:
                    found[str(entry.get("name")), form, str(entry[form])] = name
        return found

    # --- extended resources

    def of_extended(self) -> Iterator[ClaimUse]:
        """P10: requests of containers for a resource that a class of `resource.k8s.io` serves."""
        by_resource = {
            found.spec.extended_resource_name: name
            for name, found in sorted(self._world.stable_classes.items())
            if found.spec.extended_resource_name
        }
        requests = []
        for number, (container, _) in enumerate(self._containers()):
            resources = container.get("resources")
            wanted = resources.get("requests") or resources.get("limits") if isinstance(resources, dict) else None
            for place, (name, count) in enumerate(wanted.items() if isinstance(wanted, dict) else ()):
                class_ = by_resource.get(name)
                if class_ is None and str(name).startswith(EXTENDED_BY_CLASS):
                    class_ = str(name).removeprefix(EXTENDED_BY_CLASS)
                if class_ is None:
                    continue
                if not str(count).isdecimal():
                    path = f"{container.get('name')}: resources.requests.{name}"
                    raise self._pod.error(path, "a whole number", count)
                exactly = {"deviceClassName": class_, "allocationMode": "ExactCount", "count": int(count)}
                requests.append({"name": f"container-{number}-request-{place}", "exactly": exactly})
        if requests:
            name = f"{self._name}-extended-resources"
            made = self._world.stable_claims.get((self._namespace, name))
            claim = made or msgspec.convert(
                {"metadata": self._metadata(name, {}), "spec": {"devices": {"requests": requests}}},
                resource.ResourceClaim,
            )
            yield ClaimUse("P10", "", claim, made=made is None)

    # --- what containers refer to

    def check_containers(self, uses: list[ClaimUse]) -> None:
        """Refuse a container that refers to a device, claim or request that is not there."""
        entries = {use.entry: use for use in uses if use.entry}
        instances = {name for use in uses if use.form in {"P3", "P4", "P5"} for name in _requests(use.claim)}
        for container, path in self._containers():
            for index, device in enumerate(self._list(container, "devices", path)):
                place = f"{path}.devices[{index}]"
                name = self._text(self._checked(device, place), "name", place)
                if name not in instances and not (name in entries and entries[name].form in {"P6", "P7"}):
                    known = ", ".join(sorted([*instances, *entries])) or "nothing"
                    raise self._pod.error(f"{place}.name", f"the name of a device of the pod's claims ({known})", name)
            resources = container.get("resources")
            if not isinstance(resources, dict):
                continue
            for index, claim in enumerate(self._list(resources, "claims", f"{path}.resources")):
                place = f"{path}.resources.claims[{index}]"
                claim = self._checked(claim, place)  # noqa: PLW2901 - the same, checked
                name = self._text(claim, "name", place)
                if name not in entries:
                    known = ", ".join(sorted(entries)) or "there is none"
                    raise self._pod.error(f"{place}.name", f"an entry of the pod's claims ({known})", name)
                for key in ("request", "requestName"):
                    wanted = claim.get(key)
                    if wanted and wanted not in _requests(entries[name].claim):
                        known = ", ".join(_requests(entries[name].claim))
                        raise self._pod.error(f"{place}.{key}", f"a request of claim {name} ({known})", wanted)

    def _containers(self) -> Iterator[tuple[dict[str, Any], str]]:
        for field in ("initContainers", "containers"):
            for index, container in enumerate(self._list(self._spec, field, "spec")):
                path = f"spec.{field}[{index}]"
                yield self._checked(container, path), path

    # --- claims

    def _claim(self, name: object, path: str) -> AnyClaim:
        key = (self._namespace, str(name))
        found = self._world.claims.get(key) or self._world.sets.get(key) or self._world.privileged.get(key)
        if found is None:
            raise UnknownName(f"{self._pod.source}: {path}", f"a DeviceClaim in namespace {self._namespace}", str(name))
        return found

    def _any_claim(self, name: str, path: str) -> AnyClaim:
        stable = self._world.stable_claims.get((self._namespace, name))
        return stable if stable is not None else self._claim(name, path)

    def _from_template(self, form: str, entry: str, name: object, path: str, *, owner: str = "") -> ClaimUse:
        key = (self._namespace, str(name))
        made = f"{owner or self._name}-{entry}"
        stable = self._world.stable_templates.get(key)
        if stable is not None:
            # Where a controller makes the claims, it says in the status of the pod how it called them.
            called = self._statuses().get(entry, made)
            known = self._world.stable_claims.get((self._namespace, called))
            if known is not None:
                return ClaimUse(form, entry, known)
            metadata = ObjectMeta(name=made, namespace=self._namespace, labels=stable.spec.metadata.labels)
            return ClaimUse(form, entry, resource.ResourceClaim(metadata=metadata, spec=stable.spec.spec), made=True)
        template = self._world.templates.get(key)
        if template is None:
            claim = self._claim(name, path)
            if not isinstance(claim, DeviceClaim):
                raise UnknownName(f"{self._pod.source}: {path}", "a template", str(name))
            return self._use(form, entry, made, claim.spec)
        spec = template.spec
        metadata = ObjectMeta(name=made, namespace=self._namespace, labels=spec.metadata.labels)
        if spec.claim_spec is not None:
            return self._use(form, entry, made, spec.claim_spec)
        if spec.set_claim_spec is not None:
            return ClaimUse(form, entry, DeviceSetClaim(metadata=metadata, spec=spec.set_claim_spec), made=True)
        assert spec.privileged_claim_spec is not None  # noqa: S101 - the type admits one of three
        return ClaimUse(
            form, entry, DevicePrivilegedClaim(metadata=metadata, spec=spec.privileged_claim_spec), made=True
        )

    def _statuses(self) -> dict[str, str]:
        status = self._pod.body.get("status")
        entries = status.get("resourceClaimStatuses") if isinstance(status, dict) else None
        return {
            str(entry.get("name")): str(entry["resourceClaimName"])
            for entry in entries or ()
            if isinstance(entry, dict) and entry.get("resourceClaimName")
        }

    def _copied(self, form: str, entry: str, template: dict[str, Any], path: str) -> ClaimUse:
        """P5: a claim like another one, under a name of its own."""
        source = self._text(template, "claimName", path)
        claim = self._claim(source, f"{path}.claimName")
        if not isinstance(claim, DeviceClaim):
            raise UnknownName(f"{self._pod.source}: {path}.claimName", "a DeviceClaim", source)
        return self._use(form, entry, self._called(entry or source, template.get("metadata")), claim.spec)

    def _of_class(self, form: str, entry: str, suffix: str, class_: str, *, metadata: object, path: str) -> ClaimUse:
        if class_ not in self._world.classes:
            raise UnknownName(f"{self._pod.source}: {path}", "a DeviceClass", class_)
        found = self._world.classes[class_].spec.definition
        counts = found is not None and (found.min_device_count is not None or found.max_device_count is not None)
        spec = {"deviceClass": class_} if counts else {"devices": [{"name": suffix, "allOf": [{"class": class_}]}]}
        return self._make(form, entry, suffix, spec, metadata=metadata, path=path)

    def _make(
        self, form: str, entry: str, suffix: str, spec: dict[str, Any], *, metadata: object, path: str
    ) -> ClaimUse:
        name = self._called(suffix, metadata)
        body = {
            "apiVersion": VERSION,
            "kind": "DeviceClaim",
            "metadata": self._metadata(name, metadata if isinstance(metadata, dict) else {}),
            "spec": spec.get("spec", spec),
        }
        loader = Loader()
        loader.add(Document(f"{self._pod.source}: {path}", self._pod.number, body))
        return self._use(form, entry, name, loader.world.claims[self._namespace, name].spec)

    def _use(self, form: str, entry: str, name: str, spec: Any) -> ClaimUse:
        """A claim that is to be made; if the last run made it, it is that one."""
        known = self._world.claims.get((self._namespace, name))
        if known is not None:
            return ClaimUse(form, entry, known)
        metadata = ObjectMeta(name=name, namespace=self._namespace)
        claim = DeviceClaim(api_version=VERSION, kind="DeviceClaim", metadata=metadata, spec=spec)
        return ClaimUse(form, entry, claim, made=True)

    def _called(self, suffix: str, metadata: object) -> str:
        name = metadata.get("name") if isinstance(metadata, dict) else None
        return name if isinstance(name, str) and name else f"{self._name}-{suffix}"

    def _metadata(self, name: str, metadata: dict[str, Any]) -> dict[str, Any]:
        labels = metadata.get("labels")
        return {"name": name, "namespace": self._namespace, **({"labels": labels} if labels else {})}

    # --- plain data

    def _checked(self, value: object, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self._pod.error(path, "an object", value)
        return value

    def _mapping(self, parent: dict[str, Any], key: str, path: str) -> dict[str, Any]:
        return self._checked(parent.get(key), f"{path}.{key}".lstrip("."))

    def _list(self, parent: dict[str, Any], key: str, path: str) -> list[Any]:
        value = parent.get(key)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._pod.error(f"{path}.{key}", "a list", value)
        return value

    def _text(self, parent: dict[str, Any], key: str, path: str) -> str:
        value = parent.get(key)
        if not isinstance(value, str) or not value:
            raise self._pod.error(f"{path}.{key}", "a name", value)
        return value

    def _only(self, source: dict[str, Any], names: tuple[str, ...], path: str) -> str:
        found = [name for name in names if source.get(name) is not None]
        if len(found) != 1:
            raise self._pod.error(path, f"exactly one of {', '.join(names)}", ", ".join(found) or None)
        return found[0]


def _requests(claim: AnyClaim) -> list[str]:
    """Return the names by which a container may refer to a part of a claim."""
    if isinstance(claim, DeviceClaim):
        return [instance.name for instance in claim.spec.devices]
    if isinstance(claim, resource.ResourceClaim):
        requests = claim.spec.devices.requests
        return [
            name
            for entry in requests
            for name in (entry.name, *(f"{entry.name}/{o.name}" for o in entry.first_available))
        ]
    return []
