# SPDX-License-Identifier: Apache-2.0
"""Objects of the prototype as objects of `resource.k8s.io/v1`, and a note for each thing that has no counterpart.

A driver's name there is a DNS subdomain and so is the domain of its attributes; names of attributes are C identifiers.
Where a name of the prototype is neither, it is changed the same way everywhere, in expressions too. What can be said in
other words is: `oneOf` becomes a prioritized list, several `allOf` several requests, a meta class one class whose
expression joins those of its leaves. What cannot be said is left out and named.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dynamic_memory.allocation.prototype.inventory import Device, Pool, ceil_to
from dynamic_memory.allocation.prototype.rewriting import (
    attributes_of,
    identifier,
    label,
    quoted,
    rewritten,
    subdomain,
)
from dynamic_memory.allocation.prototype.types import (
    ConfigRef,
    DeviceClaim,
    DeviceClaimDetail,
    DeviceClaimInstance,
    DeviceClass,
)
from dynamic_memory.allocation.prototype.world import DEFAULT_NAMESPACE, World
from dynamic_memory.cel.errors import CompileError
from dynamic_memory.quantity import Quantity

__all__ = ["Conversion"]

VERSION = "resource.k8s.io/v1"
DEVICES_PER_SLICE = 128
DEVICES_WITH_COUNTERS = 64
"""Devices of a slice if they consume counters."""
COUNTERS_PER_SET = 32
MAX_ALTERNATIVES = 8
MAX_STRING = 64
COUNTER_SET = "shared"
_SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?")


class Conversion:
    """Converts one world; `notes` is complete once all objects were taken."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.notes: list[str] = []

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def objects(self) -> Iterator[dict[str, Any]]:
        """Yield the counterparts: classes, slices, claims and templates."""
        for found in self._world.classes.values():
            yield from self._class(found)
        for pool in self._world.inventory.pools.values():
            yield from self._slices(pool)
        templates = self._templates()
        for (namespace, name), claim in self._world.claims.items():
            yield from self._claim(claim, namespace, name, template=(namespace, name) in templates)
        yield from self._generated()
        for kind, objects in (
            ("DeviceDriver", self._world.drivers),
            ("DevicePrivilegedClaim", self._world.privileged),
            ("DeviceSetClaim", self._world.sets),
            ("DeviceClaimTemplate", self._world.templates),
        ):
            for key in objects:
                shown = key if isinstance(key, str) else "/".join(key)
                self._note(f"{kind} {shown}: the kind has no counterpart")

    # --- classes

    def _class(self, found: DeviceClass) -> Iterator[dict[str, Any]]:
        name = found.metadata.name
        definition = found.spec.definition
        if definition is None:
            self._note(
                f"DeviceClass {name}: a meta class selects classes by label; it became a list of its present leaves"
            )
            leaves = [leaf for leaf in self._world.leaves(name) or () if leaf.spec.definition is not None]
            expressions = [" && ".join(f"({part})" for part in self._selectors(leaf)) for leaf in leaves]
            if not expressions:
                self._note(f"DeviceClass {name}: it stands for no class at present")
                return
            yield _object(
                "DeviceClass", {"name": name}, {"selectors": [_cel(" || ".join(f"({e})" for e in expressions))]}
            )
            return
        if not definition.driver:
            self._note(f"DeviceClass {name}: it names no driver, only a device type")
            return
        for field in ("min_device_count", "max_device_count", "match_attributes"):
            if getattr(definition, field):
                self._note(f"DeviceClass {name}: {_camel(field)} is a matter of claims")
        spec: dict[str, Any] = {"selectors": [_cel(expression) for expression in self._selectors(found)]}
        configs = self._configs(definition.configs, DEFAULT_NAMESPACE, definition.driver, f"DeviceClass {name}")
        if configs:
            spec["config"] = configs
        yield _object("DeviceClass", {"name": name, **_labels(found.metadata.labels)}, spec)

    def _selectors(self, leaf: DeviceClass) -> list[str]:
        definition = leaf.spec.definition
        if definition is None or not definition.driver:
            return []
        driver = subdomain(definition.driver)
        expressions = [f"device.driver == {quoted(driver)}"]
        if definition.constraints:
            where = f"DeviceClass {leaf.metadata.name}"
            expressions.extend(self._constraint(definition.constraints, [driver], where))
        return expressions

    def _configs(
        self, references: Iterable[ConfigRef], namespace: str, driver: str, where: str
    ) -> list[dict[str, Any]]:
        found = []
        for reference in references:
            place = reference.namespace or namespace
            key = (reference.api_version or "v1", reference.kind, place, reference.name)
            body = self._world.configs.get(key)
            if body is None:
                self._note(f"{where}: configuration {reference.kind} {place}/{reference.name} is not among the files")
            elif not driver:
                self._note(f"{where}: configuration {reference.kind} {place}/{reference.name} is for several drivers")
            else:
                found.append({"opaque": {"driver": subdomain(driver), "parameters": body}})
        return found

    # --- expressions

    def _constraint(self, expression: str, drivers: Sequence[str], where: str) -> list[str]:
        """Return an expression with `device.x` replaced by where attribute x of the driver is now."""
        try:
            names = attributes_of(expression)
        except CompileError as error:
            self._note(f"{where}: the constraint cannot be read: {error}")
            return []
        if names is None:
            self._note(f"{where}: the constraint names attributes by what is computed: {expression}")
            return []
        amounts = self._amounts(drivers)
        joined = []
        for driver in drivers:
            text = rewritten(expression, driver, amounts)
            joined.append(text if len(drivers) == 1 else f"device.driver == {quoted(driver)} && ({text})")
        return [joined[0] if len(joined) == 1 else " || ".join(f"({text})" for text in joined)]

    def _amounts(self, drivers: Sequence[str]) -> set[str]:
        """Return the names of attributes that are quantities; they become capacities."""
        return {
            name
            for pool in self._world.inventory.pools.values()
            if subdomain(pool.driver) in drivers
            for device in pool.devices
            for name, (type_, _) in device.kind.attributes.items()
            if type_ == "quantity"
        }

    # --- pools

    def _slices(self, pool: Pool) -> Iterator[dict[str, Any]]:
        if pool.count is not None:
            self._note(f"DevicePool {pool.name}: it only counts devices; they became {pool.count} equal ones")
        devices = [self._device(device) for device in pool.devices]
        devices += [
            {"name": f"device-{number}", **self._attributes(pool.kind.attributes, pool.name)}
            for number in range(pool.count or 0)
        ]
        size = DEVICES_WITH_COUNTERS if pool.shared else DEVICES_PER_SLICE
        chunks = [devices[start : start + size] for start in range(0, len(devices), size)] or [[]]
        total = len(chunks) + bool(pool.shared)
        bodies: list[dict[str, Any]] = [{"devices": chunk} for chunk in chunks]
        if pool.shared:
            bodies.insert(0, {"sharedCounters": _counter_sets(pool)})
        for number, body in enumerate(bodies):
            spec = {
                "driver": subdomain(pool.driver),
                "pool": {"name": pool.name, "generation": 1, "resourceSliceCount": total},
                **({"nodeName": pool.node} if pool.node else {"allNodes": True}),
                **body,
            }
            yield _object("ResourceSlice", {"name": f"{pool.name}-{number}"}, spec)

    def _device(self, device: Device) -> dict[str, Any]:
        found: dict[str, Any] = {"name": label(device.name), **self._attributes(device.kind.attributes, str(device))}
        for name, provided in device.shape.provides.items():
            entry: dict[str, Any] = {"value": str(provided.quantity)}
            if provided.block > 1 and provided.capacity >= provided.block:
                block = str(Quantity(provided.block, provided.quantity.format))
                entry["requestPolicy"] = {"default": block, "validRange": {"min": block, "step": block}}
                found["allowMultipleAllocations"] = True
            found.setdefault("capacity", {})[identifier(name)] = entry
        if self._sharing(device):
            found["allowMultipleAllocations"] = True
        consumed: dict[str, dict[str, Any]] = {}
        for name, amount in device.shape.consumes.items():
            source = device.pool.shared[name]
            taken = Quantity(ceil_to(amount, source.block), source.quantity.format)
            consumed.setdefault(_set_of(device.pool, name), {})[label(name)] = {"value": str(taken)}
        if consumed:
            found["consumesCounters"] = [{"counterSet": group, "counters": own} for group, own in consumed.items()]
        return found

    def _sharing(self, device: Device) -> bool:
        """Tell whether some claim wants a share of devices like this one."""
        for claim in self._world.claims.values():
            for instance in claim.spec.devices:
                for detail in (*instance.all_of, *instance.one_of):
                    if detail.allow_shared and device.shape.provides:
                        drivers = self._drivers(detail.class_)
                        if subdomain(device.pool.driver) in drivers:
                            return True
        return False

    def _attributes(self, attributes: Mapping[str, tuple[str, object]], where: str) -> dict[str, Any]:
        plain: dict[str, Any] = {}
        amounts: dict[str, Any] = {}
        for name, (type_, value) in attributes.items():
            key = identifier(name)
            if type_ == "quantity":
                amounts[key] = {"value": str(value)}
            elif type_ == "int":
                plain[key] = {"int": value}
            elif type_ == "semver" and _SEMVER.fullmatch(str(value)) and len(str(value)) <= MAX_STRING:
                plain[key] = {"version": value}
            else:
                text = str(value)
                if len(text) > MAX_STRING:
                    self._note(f"{where}: attribute {name} is longer than {MAX_STRING} characters; it was cut")
                plain[key] = {"string": text[:MAX_STRING]}
        found: dict[str, Any] = {}
        if plain:
            found["attributes"] = plain
        if amounts:
            found["capacity"] = amounts
        return found

    # --- claims

    def _templates(self) -> set[tuple[str, str]]:
        """Return the claims that pods use as templates."""
        found = set()
        for (namespace, _), pod in self._world.pods.items():
            source = (pod.get("spec") or {}).get("deviceClaims")
            if isinstance(source, dict) and isinstance(source.get("template"), dict):
                found.add((namespace, str(source["template"].get("claimName"))))
        return found

    def _claim(self, claim: DeviceClaim, namespace: str, name: str, *, template: bool) -> Iterator[dict[str, Any]]:
        where = f"DeviceClaim {namespace}/{name}"
        spec = self._counted(claim, where) if claim.spec.counts_devices else self._spec(claim, where, namespace)
        if spec is None:
            return
        metadata = {"name": name, "namespace": namespace, **_labels(claim.metadata.labels)}
        if template:
            yield _object("ResourceClaimTemplate", metadata, {"spec": {"devices": spec}})
        else:
            yield _object("ResourceClaim", metadata, {"devices": spec})

    def _counted(self, claim: DeviceClaim, where: str) -> dict[str, Any] | None:
        spec = claim.spec
        definition = (
            self._world.classes[spec.device_class].spec.definition if spec.device_class in self._world.classes else None
        )
        if definition is None or not definition.driver:
            self._note(f"{where}: class {spec.device_class} has no counterpart")
            return None
        fewest = spec.min_device_count or definition.min_device_count or 1
        most = spec.max_device_count or definition.max_device_count
        if most is not None and most != fewest:
            self._note(f"{where}: a number of devices from {fewest} to {most}; it asks for {fewest}")
        exactly: dict[str, Any] = {
            "deviceClassName": subdomain(spec.device_class),
            "allocationMode": "ExactCount",
            "count": fewest,
        }
        if spec.constraints:
            exactly["selectors"] = [
                _cel(e) for e in self._constraint(spec.constraints, [subdomain(definition.driver)], where)
            ]
        found: dict[str, Any] = {"requests": [{"name": "devices", "exactly": exactly}]}
        match = [*definition.match_attributes, *spec.match_attributes]
        if match:
            found["constraints"] = [
                self._link("matchAttribute", name, [subdomain(definition.driver)], [], where) for name in match
            ]
        configs = self._configs(spec.configs, claim.metadata.namespace or DEFAULT_NAMESPACE, definition.driver, where)
        return {**found, **({"config": configs} if configs else {})}

    def _spec(self, claim: DeviceClaim, where: str, namespace: str) -> dict[str, Any] | None:
        requests: list[dict[str, Any]] = []
        constraints: list[dict[str, Any]] = []
        config: list[dict[str, Any]] = []
        every: set[str] = set()
        for instance in claim.spec.devices:
            for name, details in _requests(instance):
                drivers = sorted({driver for detail in details for driver in self._drivers(detail.class_)})
                if not drivers:
                    classes = ", ".join(sorted({detail.class_ for detail in details}))
                    self._note(f"{where}: class {classes} has no driver that is known; the claim was left out")
                    return None
                every.update(drivers)
                alternatives = details if len(details) > 1 or details[0] in instance.one_of else []
                if not alternatives:
                    requests.append({"name": name, "exactly": self._request(details[0], f"{where}, {name}")})
                else:
                    if len(alternatives) > MAX_ALTERNATIVES:
                        self._note(
                            f"{where}: {name} has more than {MAX_ALTERNATIVES} alternatives; the last were left out"
                        )
                    options = [
                        {"name": f"option-{number}", **self._request(detail, f"{where}, {name}", alternative=True)}
                        for number, detail in enumerate(alternatives[:MAX_ALTERNATIVES])
                    ]
                    requests.append({"name": name, "firstAvailable": options})
                for number, detail in enumerate(details):
                    full = f"{name}/option-{number}" if alternatives else name
                    own = self._drivers(detail.class_)
                    for kind, names in (
                        ("matchAttribute", detail.match_attributes),
                        ("distinctAttribute", detail.distinct_attributes),
                    ):
                        constraints.extend(self._link(kind, entry, own, [full], where) for entry in names)
                    driver = own[0] if len(own) == 1 else ""
                    own_config = self._configs(detail.configs, namespace, driver, where)
                    config += [{"requests": [full], **entry} for entry in own_config]
        constraints.extend(
            self._link("matchAttribute", name, sorted(every), [], where) for name in claim.spec.match_attributes
        )
        found: dict[str, Any] = {"requests": requests}
        if constraints:
            found["constraints"] = constraints
        if config:
            found["config"] = config
        return found

    def _request(self, detail: DeviceClaimDetail, where: str, *, alternative: bool = False) -> dict[str, Any]:
        fewest = detail.requests["devices"].value() if "devices" in detail.requests else 1
        found: dict[str, Any] = {"deviceClassName": subdomain(detail.class_)}
        if detail.constraints:
            drivers = self._drivers(detail.class_)
            selectors = self._constraint(detail.constraints, drivers, where)
            if selectors:
                found["selectors"] = [_cel(expression) for expression in selectors]
        if detail.admin_access:
            if alternative:
                self._note(f"{where}: administrative access is not possible in a prioritized list")
            else:
                found |= {"allocationMode": "All", "adminAccess": True}
                return found
        found |= {"allocationMode": "ExactCount", "count": fewest}
        if detail.max_devices is not None and detail.max_devices != fewest:
            self._note(f"{where}: a number of devices from {fewest} to {detail.max_devices}; it asks for {fewest}")
        amounts = {name: amount for name, amount in detail.requests.items() if name != "devices"}
        if amounts:
            if fewest > 1 or (detail.max_devices or 1) > 1:
                shown = ", ".join(amounts)
                self._note(f"{where}: {shown} summed over devices; each device has to have all of it")
            found["capacity"] = {"requests": {identifier(name): str(amount) for name, amount in amounts.items()}}
        return found

    def _link(
        self, kind: str, attribute: str, drivers: Sequence[str], requests: list[str], where: str
    ) -> dict[str, Any]:
        if len(drivers) > 1:
            self._note(
                f"{where}: {kind} {attribute} is compared between drivers; there every driver has its own domain"
            )
        found: dict[str, Any] = {kind: f"{drivers[0] if drivers else 'unknown'}/{identifier(attribute)}"}
        return {"requests": requests, **found} if requests else found

    def _drivers(self, class_: str) -> list[str]:
        leaves = self._world.leaves(class_) or []
        return sorted(
            {
                subdomain(leaf.spec.definition.driver)
                for leaf in leaves
                if leaf.spec.definition is not None and leaf.spec.definition.driver
            }
        )

    def _generated(self) -> Iterator[dict[str, Any]]:
        """Pods that ask for classes alone get a template for each entry."""
        for (namespace, name), pod in self._world.pods.items():
            source = (pod.get("spec") or {}).get("deviceClaims")
            entries = source.get("devices") if isinstance(source, dict) else None
            for entry in entries if isinstance(entries, list) else ():
                if isinstance(entry, dict) and {"name", "class"} <= set(entry):
                    self._note(
                        f"Pod {namespace}/{name}: devices by class alone ({entry['name']}); it became a template, "
                        "for a class with extendedResourceName a request of a container would do"
                    )
                    exactly = {
                        "deviceClassName": subdomain(entry["class"]),
                        "allocationMode": "ExactCount",
                        "count": 1,
                    }
                    spec = {"devices": {"requests": [{"name": label(entry["name"]), "exactly": exactly}]}}
                    metadata = {"name": f"{name}-{entry['name']}", "namespace": namespace}
                    yield _object("ResourceClaimTemplate", metadata, {"spec": spec})


def _requests(instance: DeviceClaimInstance) -> Iterator[tuple[str, list[DeviceClaimDetail]]]:
    """Yield the requests that an instance becomes, with their alternatives."""
    base = label(instance.name)
    alone = len(instance.all_of) + bool(instance.one_of) == 1
    for number, detail in enumerate(instance.all_of):
        yield base if alone else f"{base}-{number}", [detail]
    if instance.one_of:
        yield base if alone else f"{base}-{len(instance.all_of)}", list(instance.one_of)


# --- bodies


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _cel(expression: str) -> dict[str, Any]:
    return {"cel": {"expression": expression}}


def _labels(labels: Mapping[str, str]) -> dict[str, Any]:
    return {"labels": dict(labels)} if labels else {}


def _object(kind: str, metadata: dict[str, Any], spec: dict[str, Any]) -> dict[str, Any]:
    named = metadata | {"name": subdomain(metadata["name"])}
    return {"apiVersion": VERSION, "kind": kind, "metadata": named, "spec": spec}


def _set_of(pool: Pool, name: str) -> str:
    """Return the counter set that a shared resource is in: a set has a limited number of counters."""
    return f"{COUNTER_SET}-{list(pool.shared).index(name) // COUNTERS_PER_SET}"


def _counter_sets(pool: Pool) -> list[dict[str, Any]]:
    sets: dict[str, dict[str, Any]] = {}
    for name, source in pool.shared.items():
        sets.setdefault(_set_of(pool, name), {})[label(name)] = {"value": str(source.quantity)}
    return [{"name": name, "counters": counters} for name, counters in sets.items()]
