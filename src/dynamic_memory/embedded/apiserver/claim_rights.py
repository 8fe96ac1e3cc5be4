# SPDX-License-Identifier: Apache-2.0
"""Who may write which part of a ResourceClaim's status, finer than RBAC on `resourceclaims/status`.

A change of `allocation` or `reservedFor` needs the request's verb on `resourceclaims/binding`, cluster-wide. A change
of an entry of `devices` needs it on `resourceclaims/driver` of the name of the driver: `associated-node:<verb>` for a
service account whose token is bound to the node that the claim is allocated to, else `arbitrary-node:<verb>`. A refusal
is 422, as of the real server. Source: `pkg/registry/resource/utils.go` (gate
DRAResourceClaimGranularStatusAuthorization).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynamic_memory.embedded.apiserver.authorization import Decider, request_verb
from dynamic_memory.embedded.apiserver.core import Admission, AdmissionRequest
from dynamic_memory.embedded.apiserver.errors import Cause, invalid
from dynamic_memory.embedded.apiserver.rbac import Attributes, service_account
from dynamic_memory.embedded.apiserver.records import Object
from dynamic_memory.embedded.apiserver.request import UserInfo

__all__ = ["ClaimRights", "changed_drivers", "node_of_allocation"]

GROUP = "resource.k8s.io"
KEYS = ("driver", "pool", "device", "shareID")
NODE_NAME = "authentication.kubernetes.io/node-name"


def node_of_allocation(allocation: Mapping[str, Any] | None) -> str:
    """Return the one node that an allocation is for, empty when it is not for exactly one by name."""
    terms: list[Object] = ((allocation or {}).get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return ""
    fields: list[Object] = terms[0].get("matchFields") or []
    if len(fields) != 1 or fields[0].get("key") != "metadata.name" or fields[0].get("operator") != "In":
        return ""
    values: list[str] = fields[0].get("values") or []
    return str(values[0]) if len(values) == 1 else ""


def _devices(status: Mapping[str, Any]) -> dict[tuple[str, ...], Object]:
    entries: list[Object] = status.get("devices") or []
    return {tuple(str(entry.get(key) or "") for key in KEYS): entry for entry in entries}


def changed_drivers(new: Mapping[str, Any], old: Mapping[str, Any]) -> list[str]:
    """Return the drivers of which entries of `devices` were added, changed or removed, sorted."""
    now, before = _devices(new), _devices(old)
    return sorted({key[0] for key in now.keys() | before.keys() if now.get(key) != before.get(key)})


class ClaimRights:
    """Admission with the finer rights in front of the policies.

    Args:
        inner: what admits writes otherwise.
        decider: who may do what.

    """

    def __init__(self, inner: Admission, decider: Decider) -> None:
        self._inner = inner
        self._decider = decider

    async def mutate(self, request: AdmissionRequest) -> Object:
        """Leave changes to the policies."""
        return await self._inner.mutate(request)

    async def validate(self, request: AdmissionRequest) -> None:
        """Refuse a change of a part of the status that the caller may not write.

        Raises:
            StatusError: 422, or what the policies raise.

        """
        resource = request.resource
        if (resource.group, resource.plural, request.subresource) == (GROUP, "resourceclaims", "status"):
            self._check(request)
        await self._inner.validate(request)

    def _check(self, request: AdmissionRequest) -> None:
        new = (request.object or {}).get("status") or {}
        old = (request.old_object or {}).get("status") or {}
        verb = request_verb.get()
        causes = []
        if any(new.get(part) != old.get(part) for part in ("allocation", "reservedFor")):
            wanted = Attributes(verb, GROUP, "resourceclaims", "binding")
            if why := self._refused(request.user, wanted):
                text = 'changing status.allocation or status.reservedFor requires resource="resourceclaims/binding", '
                causes.append(_cause("status.allocation", f'{text}verb="{verb}" permission: {why}'))
        if new.get("allocation") is not None:
            causes += self._device_causes(request, new, old, verb)
        if causes:
            raise invalid(GROUP, "ResourceClaim", request.name, causes)

    def _device_causes(self, request: AdmissionRequest, new: Object, old: Object, verb: str) -> list[Cause]:
        verbs = [f"arbitrary-node:{verb}"]
        node = node_of_allocation(new.get("allocation"))
        bound = tuple(request.user.extra.get(NODE_NAME, ()))
        if node and bound == (node,) and service_account(request.user.name):
            verbs.insert(0, f"associated-node:{verb}")
        causes = []
        for driver in changed_drivers(new, old):
            refusals = [
                self._refused(
                    request.user, Attributes(entry, GROUP, "resourceclaims", "driver", request.namespace, driver)
                )
                for entry in verbs
            ]
            if all(refusals):
                text = 'changing status.devices requires resource="resourceclaims/driver", '
                causes.append(_cause("status.devices", f'{text}verb="[{" ".join(verbs)}]" permission: {refusals[0]}'))
        return causes

    def _refused(self, user: UserInfo, wanted: Attributes) -> str:
        """Return the text of a refusal, empty when it is allowed."""
        decision = self._decider.decide(user, wanted)
        if decision.allowed:
            return ""
        where = f'in the namespace "{wanted.namespace}"' if wanted.namespace else "at the cluster scope"
        name = f' "{wanted.name}"' if wanted.name else ""
        text = (
            f'{wanted.resource}.{wanted.group}{name} is forbidden: User "{user.name}" cannot {wanted.verb} resource '
            f'"{wanted.resource}/{wanted.subresource}" in API group "{wanted.group}" {where}'
        )
        return f"{text}: {decision.reason}" if decision.reason else text


def _cause(field: str, text: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {text}", field)
