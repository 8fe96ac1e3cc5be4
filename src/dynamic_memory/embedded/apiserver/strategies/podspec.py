# SPDX-License-Identifier: Apache-2.0
"""The spec of a pod, in a pod or a template: defaults that depend on other fields, and validation. Pure.

Source: `pkg/apis/core/v1/defaults.go` and `pkg/apis/core/validation` of Kubernetes 1.37, in the parts that a cluster of
simulated nodes can act on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import dns_label, dns_subdomain, label_key, label_value, validate_labels
from dynamic_memory.embedded.apiserver.strategies.checks import check_name, check_node_selector, check_node_term
from dynamic_memory.embedded.apiserver.strategies.resources import check_requirements

__all__ = ["CONTAINER_LISTS", "check_pod_spec", "check_tolerations", "default_pod_spec"]

CONTAINER_LISTS: Final = ("containers", "initContainers", "ephemeralContainers")
_PULL_POLICIES: Final = ("Always", "IfNotPresent", "Never")
_RESTART_POLICIES: Final = ("Always", "OnFailure", "Never")
_DNS_POLICIES: Final = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_MESSAGE_POLICIES: Final = ("File", "FallbackToLogsOnError")
_PROTOCOLS: Final = ("SCTP", "TCP", "UDP")
_EFFECTS: Final = ("NoSchedule", "PreferNoSchedule", "NoExecute")
MAX_PORT: Final = 65535
MAX_PORT_NAME: Final = 15
MAX_SECONDS: Final = 2**31 - 1
_PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
_HANDLERS: Final = ("exec", "httpGet", "tcpSocket", "grpc")


def default_pod_spec(spec: Any) -> None:
    """Fill in what depends on other fields: pull policies, empty volumes, the two names of a service account."""
    if not isinstance(spec, dict):
        return
    for kind in CONTAINER_LISTS:
        for container in spec.get(kind) or ():
            if not container.get("imagePullPolicy"):
                container["imagePullPolicy"] = "Always" if _is_latest(container.get("image", "")) else "IfNotPresent"
    for volume in spec.get("volumes") or ():
        if len(volume) == 1 and "name" in volume:
            volume["emptyDir"] = {}
    name = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if name:
        spec["serviceAccountName"] = spec["serviceAccount"] = name


def _is_latest(image: str) -> bool:
    if "@" in image:
        return False
    tag = image.rpartition("/")[2].partition(":")[2]
    return tag in ("", "latest")


def check_pod_spec(spec: Mapping[str, Any], path: str) -> list[Cause]:
    """Return what is wrong with the spec of a pod."""
    volumes, causes = _volumes(spec.get("volumes") or [], f"{path}.volumes")
    claims, wrong = _claims(spec.get("resourceClaims") or [], f"{path}.resourceClaims")
    causes += wrong
    seen: set[str] = set()
    if not spec.get("containers"):
        causes.append(fields.required(f"{path}.containers"))
    for kind in CONTAINER_LISTS:
        own: set[str] = set()
        for index, container in enumerate(spec.get(kind) or ()):
            here = f"{path}.{kind}[{index}]"
            causes += _container(container, here, volumes, claims)
            causes += _of_kind(container, here, kind)
            name = container.get("name", "")
            if name in seen or name in own:
                causes.append(fields.duplicate(f"{here}.name", name))
            own.add(name)
        seen |= own
    causes += _deprecated_devices(spec.get("deviceClaims"), f"{path}.deviceClaims")
    causes += _pod_resources(spec, path)
    causes += _choices(spec, path)
    causes += validate_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    causes += _affinity(spec.get("affinity") or {}, f"{path}.affinity")
    causes += _names(spec, path)
    return causes + check_tolerations(spec.get("tolerations") or [], f"{path}.tolerations")


def _choices(spec: Mapping[str, Any], path: str) -> Iterable[Cause]:
    for name, values in (("restartPolicy", _RESTART_POLICIES), ("dnsPolicy", _DNS_POLICIES)):
        value = spec.get(name, "")
        if not value:
            yield fields.required(f"{path}.{name}")
        elif value not in values:
            yield fields.not_supported(f"{path}.{name}", value, values)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= MAX_SECONDS:
        text = f"must be between 1 and {MAX_SECONDS}, inclusive"
        yield fields.invalid(f"{path}.activeDeadlineSeconds", deadline, text)
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is None:
        yield fields.required(f"{path}.terminationGracePeriodSeconds")


def _names(spec: Mapping[str, Any], path: str) -> Iterable[Cause]:
    for name, rule in (
        ("serviceAccountName", dns_subdomain),
        ("nodeName", dns_subdomain),
        ("hostname", dns_label),
        ("subdomain", dns_label),
        ("priorityClassName", dns_subdomain),
        ("runtimeClassName", dns_subdomain),
    ):
        value = spec.get(name)
        if value:
            yield from (fields.invalid(f"{path}.{name}", value, text) for text in rule(value))
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            yield fields.required(f"{path}.imagePullSecrets[{index}].name")
    gates: set[str] = set()
    for index, gate in enumerate(spec.get("schedulingGates") or ()):
        name, here = gate.get("name", ""), f"{path}.schedulingGates[{index}]"
        yield from (fields.invalid(here, name, text) for text in label_key(name))
        if name in gates:
            yield fields.duplicate(here, name)
        gates.add(name)


def _volumes(volumes: list[Mapping[str, Any]], path: str) -> tuple[set[str], list[Cause]]:
    names: set[str] = set()
    causes: list[Cause] = []
    for index, volume in enumerate(volumes):
        here = fields.at(path, index)
        name = volume.get("name", "")
        sources = [source for source, value in volume.items() if source != "name" and value is not None]
        wrong = list(check_name(dns_label)(name, f"{here}.name"))
        if not sources:
            wrong.append(fields.required(here, "must specify a volume type"))
        wrong += [
            fields.forbidden(f"{here}.{source}", "may not specify more than 1 volume type") for source in sources[1:]
        ]
        if name in names:
            wrong.append(fields.duplicate(f"{here}.name", name))
        wrong += _source(volume, here)
        if not wrong:
            names.add(name)
        causes += wrong
    return names, causes


def _source(volume: Mapping[str, Any], path: str) -> Iterable[Cause]:
    for source, name, inner in (
        ("hostPath", "path", "path"),
        ("secret", "secretName", "secretName"),
        ("configMap", "name", "name"),
        ("persistentVolumeClaim", "claimName", "claimName"),
        ("csi", "driver", "driver"),
    ):
        value = volume.get(source)
        if isinstance(value, dict) and not value.get(name):
            yield fields.required(f"{path}.{source}.{inner}")


def _claims(claims: list[Mapping[str, Any]], path: str) -> tuple[set[str], list[Cause]]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, claim in enumerate(claims):
        here = fields.at(path, index)
        name, direct, template = (
            claim.get("name", ""),
            claim.get("resourceClaimName"),
            claim.get("resourceClaimTemplateName"),
        )
        if not name:
            causes.append(fields.required(f"{here}.name"))
        elif name in seen:
            causes.append(fields.duplicate(f"{here}.name", name))
        else:
            causes += check_name(dns_label)(name, f"{here}.name")
            seen.add(name)
        if direct is not None and template is not None:
            text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            causes.append(fields.invalid(here, _as_go_shows(claim), text))
        if direct is None and template is None:
            text = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            causes.append(fields.invalid(here, _as_go_shows(claim), text))
        for field, value in (("resourceClaimName", direct), ("resourceClaimTemplateName", template)):
            if value is not None:
                causes += [fields.invalid(f"{here}.{field}", value, text) for text in dns_subdomain(value)]
    return {claim.get("name", "") for claim in claims}, causes


def _as_go_shows(claim: Mapping[str, Any]) -> dict[str, Any]:
    """Return a claim as messages of the real server show it: in its internal type."""
    names = ("Name", "ResourceClaimName", "ResourceClaimTemplateName")
    return {name: claim.get(name[0].lower() + name[1:]) for name in names}


def _deprecated_devices(claims: Any, path: str) -> Iterable[Cause]:
    """Check the prototype's way to ask for devices: exactly one form."""
    if not isinstance(claims, dict):
        return
    used = [name for name in ("devices", "claimName", "template") if claims.get(name)]
    if len(used) != 1:
        text = "exactly one of `devices`, `claimName` or `template` must be specified"
        yield fields.invalid(path, claims, text) if used else fields.required(path, text)


def _container(container: Mapping[str, Any], path: str, volumes: set[str], claims: set[str]) -> list[Cause]:
    causes = list(check_name(dns_label)(container.get("name", ""), f"{path}.name"))
    if not container.get("image"):
        causes.append(fields.required(f"{path}.image"))
    for name, values in (
        ("terminationMessagePolicy", _MESSAGE_POLICIES),
        ("imagePullPolicy", _PULL_POLICIES),
    ):
        value = container.get(name, "")
        if not value:
            causes.append(fields.required(f"{path}.{name}"))
        elif value not in values:
            causes.append(fields.not_supported(f"{path}.{name}", value, values))
    causes += _ports(container.get("ports") or [], f"{path}.ports")
    causes += _environment(container, path)
    causes += _mounts(container.get("volumeMounts") or [], volumes, f"{path}.volumeMounts")
    causes += check_requirements(container.get("resources") or {}, f"{path}.resources", claims)
    return causes + list(_resize_policy(container.get("resizePolicy") or [], f"{path}.resizePolicy"))


def _of_kind(container: Mapping[str, Any], path: str, kind: str) -> Iterable[Cause]:
    """Check what depends on whether a container is regular, init or ephemeral."""
    sidecar = container.get("restartPolicy") == "Always"
    if kind == "initContainers" and not sidecar:
        for name in ("lifecycle", *_PROBES):
            if container.get(name) is not None:
                text = "may not be set for init containers without restartPolicy=Always"
                yield fields.forbidden(f"{path}.{name}", text)
        return
    if kind == "ephemeralContainers":
        for name in ("ports", "lifecycle", *_PROBES, "resizePolicy"):
            if container.get(name):
                yield fields.forbidden(f"{path}.{name}", "cannot be set for an Ephemeral Container")
        if container.get("resources"):
            yield fields.forbidden(f"{path}.resources", "cannot be set for an Ephemeral Container")
        return
    for name in _PROBES:
        probe = container.get(name)
        if probe is not None:
            yield from _probe(probe, f"{path}.{name}", once=name != "readinessProbe")


def _probe(probe: Mapping[str, Any], path: str, *, once: bool) -> Iterable[Cause]:
    used = [name for name in _HANDLERS if probe.get(name) is not None]
    if not used:
        yield fields.required(path, "must specify a handler type")
    for name in used[1:]:
        yield fields.forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    for name in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if probe.get(name, 0) < 0:
            yield fields.invalid(f"{path}.{name}", probe[name], "must be greater than or equal to 0")
    if once and probe.get("successThreshold", 1) != 1:
        yield fields.invalid(f"{path}.successThreshold", probe["successThreshold"], "must be 1")


def _ports(ports: list[Mapping[str, Any]], path: str) -> Iterable[Cause]:
    names: set[str] = set()
    for index, port in enumerate(ports):
        here = fields.at(path, index)
        name = port.get("name", "")
        if name:
            if len(name) > MAX_PORT_NAME:
                text = f"must be no more than {MAX_PORT_NAME} characters"
                yield fields.invalid(f"{here}.name", name, text)
            elif name in names:
                yield fields.duplicate(f"{here}.name", name)
            names.add(name)
        number = port.get("containerPort", 0)
        if not number:
            yield fields.required(f"{here}.containerPort")
        for field in ("containerPort", "hostPort"):
            value = port.get(field, 0)
            if value and not 1 <= value <= MAX_PORT:
                yield fields.invalid(f"{here}.{field}", value, f"must be between 1 and {MAX_PORT}, inclusive")
        protocol = port.get("protocol", "")
        if not protocol:
            yield fields.required(f"{here}.protocol")
        elif protocol not in _PROTOCOLS:
            yield fields.not_supported(f"{here}.protocol", protocol, _PROTOCOLS)


def _environment(container: Mapping[str, Any], path: str) -> Iterable[Cause]:
    for index, variable in enumerate(container.get("env") or ()):
        here, name = f"{path}.env[{index}]", variable.get("name", "")
        if not name:
            yield fields.required(f"{here}.name")
        elif "=" in name or not name.isprintable() or not name.isascii():
            text = "a valid environment variable name must consist only of printable ASCII characters other than '='"
            yield fields.invalid(f"{here}.name", name, text)
        source = variable.get("valueFrom")
        if source is not None:
            if variable.get("value"):
                text = "may not be specified when `value` is not empty"
                yield fields.invalid(f"{here}.valueFrom", "", text)
            used = [part for part, value in source.items() if value is not None]
            if not used:
                text = (
                    "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or "
                    "`fileKeyRef`"
                )
                yield fields.invalid(f"{here}.valueFrom", "", text)
            elif len(used) > 1:
                text = "may not have more than one field specified at a time"
                yield fields.invalid(f"{here}.valueFrom", "", text)


def _mounts(mounts: list[Mapping[str, Any]], volumes: set[str], path: str) -> Iterable[Cause]:
    seen: set[str] = set()
    for index, mount in enumerate(mounts):
        here = fields.at(path, index)
        name, place = mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            yield fields.required(f"{here}.name")
        if name not in volumes:
            yield fields.not_found(f"{here}.name", name)
        if not place:
            yield fields.required(f"{here}.mountPath")
        if place in seen:
            yield fields.invalid(f"{here}.mountPath", place, "must be unique")
        seen.add(place)


def _resize_policy(policies: list[Mapping[str, Any]], path: str) -> Iterable[Cause]:
    seen: set[str] = set()
    for index, policy in enumerate(policies):
        name, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if name in seen:
            yield fields.duplicate(fields.at(path, index), name)
        seen.add(name)
        if not name:
            yield fields.required(path)
        elif name not in ("cpu", "memory"):
            yield fields.not_supported(path, name, ("cpu", "memory"))
        if not restart:
            yield fields.required(path)
        elif restart not in ("NotRequired", "RestartContainer"):
            yield fields.not_supported(path, restart, ("NotRequired", "RestartContainer"))


def _pod_resources(spec: Mapping[str, Any], path: str) -> list[Cause]:
    requirements = spec.get("resources")
    if not requirements:
        return []
    causes = []
    if requirements.get("claims"):
        causes.append(fields.forbidden(f"{path}.resources.claims", "claims cannot be set for Resources at pod-level"))
    return causes + check_requirements(requirements, f"{path}.resources", set())


def _affinity(affinity: Mapping[str, Any], path: str) -> Iterable[Cause]:
    node = affinity.get("nodeAffinity") or {}
    here = f"{path}.nodeAffinity"
    needed = node.get("requiredDuringSchedulingIgnoredDuringExecution")
    if needed is not None:
        yield from check_node_selector(needed, f"{here}.requiredDuringSchedulingIgnoredDuringExecution")
    for index, term in enumerate(node.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        at = f"{here}.preferredDuringSchedulingIgnoredDuringExecution[{index}]"
        weight = term.get("weight", 0)
        if not 1 <= weight <= 100:  # noqa: PLR2004 - the range of the API
            yield fields.invalid(f"{at}.weight", weight, "must be in the range 1-100")
        yield from check_node_term(term.get("preference") or {}, f"{at}.preference")


def check_tolerations(tolerations: list[Mapping[str, Any]], path: str) -> list[Cause]:
    """Check the tolerations of a pod."""
    return [
        cause
        for index, toleration in enumerate(tolerations)
        for cause in _toleration(toleration, fields.at(path, index))
    ]


def _toleration(toleration: Mapping[str, Any], path: str) -> Iterable[Cause]:
    name, operator, value, effect = (toleration.get(part, "") for part in ("key", "operator", "value", "effect"))
    if name:
        yield from (fields.invalid(f"{path}.key", name, text) for text in label_key(name))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        yield fields.invalid(f"{path}.operator", operator, text)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        yield fields.invalid(f"{path}.effect", effect, text)
    if operator in ("Equal", ""):
        if wrong := label_value(value):
            yield fields.invalid(f"{path}.operator", value, ";".join(wrong))
    elif operator == "Exists":
        if value:
            text = "value must be empty when `operator` is 'Exists'"
            yield fields.invalid(f"{path}.operator", value, text)
    else:
        yield fields.not_supported(f"{path}.operator", operator, ("Equal", "Exists"))
    if effect and effect not in _EFFECTS:
        yield fields.not_supported(f"{path}.effect", effect, _EFFECTS)
