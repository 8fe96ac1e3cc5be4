# SPDX-License-Identifier: Apache-2.0
"""Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs and CronJobs: defaults, selectors, templates.

Source: `pkg/apis/{apps,batch}/{v1/defaults.go,validation}` and the registry strategies of Kubernetes 1.37.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from dynamic_memory.embedded.apiserver import fields
from dynamic_memory.embedded.apiserver.errors import Cause
from dynamic_memory.embedded.apiserver.names import validate_annotations, validate_labels, validate_selector
from dynamic_memory.embedded.apiserver.resource import Context, Strategy
from dynamic_memory.embedded.apiserver.strategies.checks import immutable
from dynamic_memory.embedded.apiserver.strategies.podspec import check_pod_spec, default_pod_spec

__all__ = [
    "ControllerStrategy",
    "CronJobStrategy",
    "DaemonSetStrategy",
    "DeploymentStrategy",
    "JobStrategy",
    "ReplicaSetStrategy",
    "StatefulSetStrategy",
]

Object = dict[str, Any]

_JOB_LABELS: Final = ("batch.kubernetes.io/controller-uid", "controller-uid")
_JOB_NAMES: Final = ("batch.kubernetes.io/job-name", "job-name")
_PERCENT: Final = re.compile(r"[0-9]+%")


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Say whether a LabelSelector matches labels."""
    if any(labels.get(name) != value for name, value in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or ():
        name, operator, values = term.get("key", ""), term.get("operator", ""), term.get("values") or ()
        held = {
            "In": labels.get(name) in values,
            "NotIn": labels.get(name) not in values,
            "Exists": name in labels,
            "DoesNotExist": name not in labels,
        }
        if not held.get(operator, False):
            return False
    return True


def _not_negative(spec: Mapping[str, Any], path: str, *names: str) -> Iterable[Cause]:
    for name in names:
        if spec.get(name) is not None and spec[name] < 0:
            yield fields.invalid(f"{path}.{name}", spec[name], "must be greater than or equal to 0")


def check_template(template: Mapping[str, Any], path: str) -> list[Cause]:
    """Check the metadata and the spec of a pod template."""
    metadata = template.get("metadata") or {}
    causes = validate_labels(metadata.get("labels"), f"{path}.metadata.labels")
    causes += validate_annotations(metadata.get("annotations"), f"{path}.metadata.annotations")
    return causes + check_pod_spec(template.get("spec") or {}, f"{path}.spec")


class ControllerStrategy(Strategy):
    """What kinds with a selector and a pod template have in common.

    Attributes:
        kind: how messages name it.
        fixed_selector: whether the selector may never change.

    """

    asks_for_required = True
    kind = "deployment"
    fixed_selector = True
    counts: tuple[str, ...] = ("replicas", "minReadySeconds", "revisionHistoryLimit")

    def default(self, obj: Object) -> Object:
        """Fill in what the pods' spec needs, and the rest."""
        spec = obj.get("spec")
        if isinstance(spec, dict):
            default_pod_spec((spec.get("template") or {}).get("spec"))
            self.default_spec(spec)
        return obj

    def default_spec(self, spec: Object) -> None:
        """Fill in what is the kind's own."""

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        spec = obj.get("spec") or {}
        causes = [*_not_negative(spec, "spec", *self.counts), *self._selector(spec)]
        template = spec.get("template")
        if template is None:
            return [*causes, fields.required("spec.template")]
        causes += check_template(template, "spec.template")
        return [*causes, *self._always(template.get("spec") or {}), *self.check_spec(spec)]

    def check_spec(self, spec: Object) -> Iterable[Cause]:
        """Check what is the kind's own."""
        del spec
        return ()

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the spec again, and that the selector is as it was."""
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if subresource is not None or spec == before:
            return []
        causes = self.validate_create(new)
        if self.fixed_selector:
            causes += immutable(spec.get("selector"), before.get("selector"), "spec.selector")
        return causes

    def _selector(self, spec: Object) -> Iterable[Cause]:
        selector = spec.get("selector")
        if selector is None:
            yield fields.required("spec.selector")
            return
        yield from validate_selector(selector, "spec.selector")
        if not selector.get("matchLabels") and not selector.get("matchExpressions"):
            yield fields.invalid("spec.selector", selector, f"empty selector is invalid for {self.kind}")
            return
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels") or {}
        if spec.get("template") is not None and not _selects(selector, labels):
            text = "`selector` does not match template `labels`"
            yield fields.invalid("spec.template.metadata.labels", labels, text)

    def _always(self, spec: Object) -> Iterable[Cause]:
        """Check that pods which are kept alive are restarted."""
        path = "spec.template.spec"
        if spec.get("restartPolicy") != "Always":
            yield fields.not_supported(f"{path}.restartPolicy", spec.get("restartPolicy", ""), ("Always",))
        if spec.get("activeDeadlineSeconds") is not None:
            name = {"daemonset": "DaemonSet", "statefulset": "StatefulSet"}.get(self.kind, "ReplicaSet")
            text = f"activeDeadlineSeconds in {name} is not Supported"
            yield fields.forbidden(f"{path}.activeDeadlineSeconds", text)


def _share(value: Any) -> int | None:
    """Return the number of a whole number or a percentage; None if it is neither."""
    if isinstance(value, int):
        return value
    return int(value[:-1]) if isinstance(value, str) and _PERCENT.fullmatch(value) else None


def _int_or_percent(value: Any, path: str) -> Iterable[Cause]:
    if isinstance(value, str) and not _PERCENT.fullmatch(value):
        text = "a valid percent string must be a numeric string followed by an ending '%'"
        yield fields.invalid(path, value, f"{text} (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')")
    elif isinstance(value, int) and value < 0:
        yield fields.invalid(path, value, "must be greater than or equal to 0")


class DeploymentStrategy(ControllerStrategy):
    """Deployment."""

    def default_spec(self, spec: Object) -> None:
        """Roll by a quarter."""
        strategy = spec.setdefault("strategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", "25%")
            rolling.setdefault("maxSurge", "25%")

    def check_spec(self, spec: Object) -> Iterable[Cause]:
        """Check the strategy and the deadline."""
        strategy = spec.get("strategy") or {}
        kind, rolling, path = strategy.get("type", ""), strategy.get("rollingUpdate"), "spec.strategy"
        if kind == "Recreate":
            if rolling is not None:
                text = "may not be specified when strategy `type` is 'Recreate'"
                yield fields.forbidden(f"{path}.rollingUpdate", text)
        elif kind == "RollingUpdate":
            yield from _rolling(rolling or {}, f"{path}.rollingUpdate")
        else:
            yield fields.not_supported(path, strategy, ("Recreate", "RollingUpdate"))
        deadline = spec.get("progressDeadlineSeconds")
        if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
            yield fields.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _rolling(rolling: Mapping[str, Any], path: str) -> Iterable[Cause]:
    unavailable, surge = rolling.get("maxUnavailable"), rolling.get("maxSurge")
    yield from _int_or_percent(unavailable, f"{path}.maxUnavailable")
    yield from _int_or_percent(surge, f"{path}.maxSurge")
    if _share(unavailable) == 0 and _share(surge) == 0:
        yield fields.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    if isinstance(unavailable, str) and (_share(unavailable) or 0) > 100:  # noqa: PLR2004 - percent
        yield fields.invalid(f"{path}.maxUnavailable", unavailable, "must not be greater than 100%")


class ReplicaSetStrategy(ControllerStrategy):
    """ReplicaSet: without a selector of its own it takes the labels of its template."""

    def default_spec(self, spec: Object) -> None:
        """Select what the template makes."""
        labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
        if labels and spec.get("selector") is None:
            spec["selector"] = {"matchLabels": dict(labels)}


class StatefulSetStrategy(ControllerStrategy):
    """StatefulSet."""

    kind = "statefulset"

    def default_spec(self, spec: Object) -> None:
        """Roll from the last to the first."""
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            strategy.setdefault("rollingUpdate", {}).setdefault("partition", 0)

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that only what may change did."""
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if subresource is not None or spec == before:
            return []
        causes = self.validate_create(new)
        free = {
            "replicas", "ordinals", "template", "updateStrategy", "revisionHistoryLimit",
            "persistentVolumeClaimRetentionPolicy", "minReadySeconds",
        }  # fmt: skip
        if any(spec.get(name) != before.get(name) for name in (spec.keys() | before.keys()) - free):
            text = (
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
                "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
                "'minReadySeconds' are forbidden"
            )
            causes.append(fields.forbidden("spec", text))
        return causes


class DaemonSetStrategy(ControllerStrategy):
    """DaemonSet."""

    kind = "daemonset"
    counts = ("minReadySeconds", "revisionHistoryLimit")

    def default_spec(self, spec: Object) -> None:
        """Roll one by one."""
        strategy = spec.setdefault("updateStrategy", {})
        if not strategy.get("type"):
            strategy["type"] = "RollingUpdate"
        if strategy["type"] == "RollingUpdate":
            rolling = strategy.setdefault("rollingUpdate", {})
            rolling.setdefault("maxUnavailable", 1)
            rolling.setdefault("maxSurge", 0)

    def check_spec(self, spec: Object) -> Iterable[Cause]:
        """Check how it rolls."""
        strategy, path = spec.get("updateStrategy") or {}, "spec.updateStrategy"
        kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate") or {}
        if kind not in ("RollingUpdate", "OnDelete"):
            yield fields.not_supported(path, strategy, ("RollingUpdate", "OnDelete"))
        if kind == "RollingUpdate":
            here = f"{path}.rollingUpdate"
            unavailable, surge = _share(rolling.get("maxUnavailable")), _share(rolling.get("maxSurge"))
            if unavailable and surge:
                text = "may not be set when maxUnavailable is non-zero"
                yield fields.invalid(f"{here}.maxSurge", rolling.get("maxSurge"), text)
            if not unavailable and not surge:
                yield fields.required(f"{here}.maxUnavailable", "cannot be 0 when maxSurge is 0")


class JobStrategy(Strategy):
    """Job: its selector is generated; template, selector and completions are immutable."""

    asks_for_required = True

    def default(self, obj: Object) -> Object:
        """Fill in counts, and the labels of the template."""
        spec = obj.get("spec")
        if isinstance(spec, dict):
            default_job_spec(spec)
            labels = ((spec.get("template") or {}).get("metadata") or {}).get("labels")
            if labels and not (obj.get("metadata") or {}).get("labels"):
                obj.setdefault("metadata", {})["labels"] = dict(labels)
        return obj

    def prepare_create(self, obj: Object, ctx: Context) -> Object:
        """Generate the selector from the job's uid."""
        del ctx
        spec, metadata = obj.setdefault("spec", {}), obj["metadata"]
        if not spec.get("manualSelector") and isinstance(spec.get("template"), dict):
            inner = spec["template"].setdefault("metadata", {})
            labels = inner["labels"] = dict(inner.get("labels") or {})
            labels |= dict.fromkeys(_JOB_LABELS, metadata["uid"])
            labels |= dict.fromkeys(_JOB_NAMES, metadata.get("name", ""))
            spec["selector"] = {"matchLabels": {_JOB_LABELS[0]: metadata["uid"]}}
            if not metadata.get("labels"):
                metadata["labels"] = dict(labels)
        return obj

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check the spec."""
        return check_job_spec(obj.get("spec") or {}, "spec", selected=True)

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check that only what may change did."""
        spec, before = new.get("spec") or {}, old.get("spec") or {}
        if subresource is not None or spec == before:
            return []
        causes = check_job_spec(spec, "spec", selected=True)
        names = ["selector", "completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy"]
        if not before.get("suspend"):
            names.append("template")
        if spec.get("completionMode") != "Indexed" or spec.get("completions") != spec.get("parallelism"):
            names.append("completions")
        for name in names:
            causes += immutable(spec.get(name), before.get(name), f"spec.{name}")
        return causes


def default_job_spec(spec: Object) -> None:
    """Fill in the counts of a job."""
    default_pod_spec((spec.get("template") or {}).get("spec"))
    if spec.get("completions") is None and spec.get("parallelism") is None:
        spec["completions"] = spec["parallelism"] = 1
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
    spec.setdefault("manualSelector", False)
    if not spec.get("podReplacementPolicy"):
        spec["podReplacementPolicy"] = "Failed" if spec.get("podFailurePolicy") else "TerminatingOrFailed"


def check_job_spec(spec: Object, path: str, *, selected: bool) -> list[Cause]:
    """Check the spec of a job or of a template for one."""
    counts = ("parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished")
    causes = list(_not_negative(spec, path, *counts))
    template = spec.get("template")
    if template is None:
        return [*causes, fields.required(f"{path}.template")]
    labels = (template.get("metadata") or {}).get("labels") or {}
    if selected and spec.get("selector") is None:
        causes.append(fields.required(f"{path}.selector"))
    elif selected and not _selects(spec["selector"], labels):
        text = "`selector` does not match template `labels`"
        causes.append(fields.invalid(f"{path}.template.metadata.labels", labels, text))
    mode = spec.get("completionMode")
    if mode not in (None, "NonIndexed", "Indexed"):
        causes.append(fields.not_supported(f"{path}.completionMode", mode, ("NonIndexed", "Indexed")))
    if mode == "Indexed" and spec.get("completions") is None:
        causes.append(fields.required(f"{path}.completions", "when completion mode is Indexed"))
    policy = (template.get("spec") or {}).get("restartPolicy", "")
    if policy not in ("OnFailure", "Never"):
        here = f"{path}.template.spec.restartPolicy"
        if policy == "Always":
            causes.append(fields.required(here, 'valid values: "OnFailure", "Never"'))
        else:
            causes.append(fields.not_supported(here, policy, ("OnFailure", "Never")))
    return causes + check_template(template, f"{path}.template")


class CronJobStrategy(Strategy):
    """CronJob."""

    asks_for_required = True

    def default(self, obj: Object) -> Object:
        """Fill in what the jobs need."""
        spec = ((obj.get("spec") or {}).get("jobTemplate") or {}).get("spec")
        if isinstance(spec, dict):
            default_pod_spec((spec.get("template") or {}).get("spec"))
        return obj

    def validate_create(self, obj: Object) -> list[Cause]:
        """Check schedule and job template."""
        spec = obj.get("spec") or {}
        causes = list(_not_negative(spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"))
        schedule = spec.get("schedule", "")
        if not schedule:
            causes.append(fields.required("spec.schedule"))
        elif not schedule.startswith("@") and len(schedule.split()) != 5:  # noqa: PLR2004 - fields of cron
            text = f"expected exactly 5 fields, found {len(schedule.split())}: [{' '.join(schedule.split())}]"
            causes.append(fields.invalid("spec.schedule", schedule, text))
        policy = spec.get("concurrencyPolicy", "")
        if policy not in ("Allow", "Forbid", "Replace"):
            causes.append(fields.not_supported("spec.concurrencyPolicy", policy, ("Allow", "Forbid", "Replace")))
        job = (spec.get("jobTemplate") or {}).get("spec") or {}
        return causes + check_job_spec(job, "spec.jobTemplate.spec", selected=False)

    def validate_update(self, new: Object, old: Object, subresource: str | None) -> list[Cause]:
        """Check the spec again."""
        return [] if subresource is not None or new.get("spec") == old.get("spec") else self.validate_create(new)
