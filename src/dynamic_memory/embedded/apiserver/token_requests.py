# SPDX-License-Identifier: Apache-2.0
"""`serviceaccounts/<name>/token`: a TokenRequest comes back with a token in its status.

Source: k8s.io/kubernetes, `pkg/registry/core/serviceaccount/storage/token.go`.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from dynamic_memory.embedded.apiserver.core import Core
from dynamic_memory.embedded.apiserver.errors import Cause, StatusError, bad_request, invalid, not_found
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.request import Request
from dynamic_memory.embedded.apiserver.resource import World
from dynamic_memory.embedded.apiserver.tokens import ISSUER, TokenKey, Tokens
from dynamic_memory.process.clock import rfc3339

__all__ = ["TokenRequests"]

GROUP = "authentication.k8s.io"
DEFAULT_SECONDS = 3600
SHORTEST = 600
LONGEST = 1 << 32
BOUND = {"Pod": "pods", "Node": "nodes", "Secret": "secrets"}


class TokenRequests:
    """Answers token requests.

    Args:
        core: registry and clock.
        world: the stored objects.
        key: signs; made ready here.
        tokens: issues.

    """

    def __init__(self, core: Core, world: World, key: TokenKey, tokens: Tokens) -> None:
        self._core = core
        self._world = world
        self._key = key
        self._tokens = tokens

    async def __call__(self, request: Request, account: Record, body: Object) -> Object:  # noqa: ARG002 - the form of the hook
        """Return the answer to a TokenRequest for a service account.

        Raises:
            StatusError: 400, 404, 409 or 422, as of the real server.

        """
        spec = dict(body.get("spec") or {})
        own = account.object["metadata"]
        self._check(body, spec, own)
        bound = self._bound(spec.get("boundObjectRef"), own)
        await asyncio.to_thread(self._key.prepare)
        token = self._tokens.issue(account.object, spec["expirationSeconds"], tuple(spec["audiences"]), **bound)
        now = self._core.clock.now()
        expires = now + dt.timedelta(seconds=spec["expirationSeconds"])
        metadata = {
            **(body.get("metadata") or {}),
            "name": own["name"],
            "namespace": own["namespace"],
            "uid": own["uid"],
        }
        return {
            "kind": "TokenRequest",
            "apiVersion": f"{GROUP}/v1",
            "metadata": {**metadata, "creationTimestamp": rfc3339(now)},
            "spec": {"boundObjectRef": None, **spec},
            "status": {"token": token, "expirationTimestamp": rfc3339(expires)},
        }

    @staticmethod
    def _check(body: Object, spec: Object, own: Object) -> None:
        named = (body.get("metadata") or {}).get("name")
        if named and named != own["name"]:
            text = f'Invalid value: "{named}": must match the service account name if specified'
            raise invalid(GROUP, "TokenRequest", own["name"], [Cause("FieldValueInvalid", text, "metadata.name")])
        spec["audiences"] = spec.get("audiences") or [ISSUER]
        seconds = spec.get("expirationSeconds")
        spec["expirationSeconds"] = seconds = DEFAULT_SECONDS if seconds is None else int(seconds)
        why = ""
        if seconds < SHORTEST:
            why = "may not specify a duration less than 10 minutes"
        elif seconds > LONGEST:
            why = "may not specify a duration larger than 2^32 seconds"
        if why:
            cause = Cause("FieldValueInvalid", f"Invalid value: {seconds}: {why}", "spec.expirationSeconds")
            raise invalid(GROUP, "TokenRequest", "", [cause])

    def _bound(self, reference: Object | None, own: Object) -> dict[str, Any]:
        """Return the objects that the token is bound to, as arguments of `Tokens.issue`."""
        if not reference:
            return {}
        kind, name = str(reference.get("kind", "")), str(reference.get("name", ""))
        if kind not in BOUND or reference.get("apiVersion", "v1") != "v1":
            api_version = str(reference.get("apiVersion", ""))
            group = api_version if "/" in api_version else f"/{api_version}"
            raise bad_request(f"cannot bind token to object of type {group}, Kind={kind}")
        if not name:
            raise bad_request("Name parameter required.")
        namespace = "" if kind == "Node" else own["namespace"]
        obj = self._world.get("", BOUND[kind], namespace, name)
        if obj is None:
            resource = self._core.registry.find("", "v1", BOUND[kind])
            assert resource is not None  # noqa: S101 - core kinds are always served
            raise not_found(resource, name)
        wanted = reference.get("uid")
        if wanted and wanted != obj["metadata"].get("uid"):
            text = (
                f'Operation cannot be fulfilled on {kind} "{name}": the UID in the bound object reference ({wanted}) '
                "does not match the UID in record. The object might have been deleted and then recreated"
            )
            raise StatusError(409, "Conflict", text, kind=kind, name=name)
        found: dict[str, Any] = {kind.lower(): obj}
        if kind == "Pod":
            if obj["spec"].get("serviceAccountName") != own["name"]:
                text = f'cannot bind token for serviceaccount "{own["name"]}" to pod'
                raise bad_request(f"{text} running with different serviceaccount name.")
            if node_name := obj["spec"].get("nodeName"):
                node = self._world.get("", "nodes", "", node_name)
                found["node"] = node or {"metadata": {"name": node_name, "uid": ""}}
        return found
