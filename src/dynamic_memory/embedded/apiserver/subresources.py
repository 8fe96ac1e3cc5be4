# SPDX-License-Identifier: Apache-2.0
"""What can be done to an object beside reading and writing it: scale, bind, evict, tokens.

`status`, `resize`, `ephemeralcontainers` and `approval` are writes of the object that change a part of it only; they go
the common way. What would need a kubelet behind the server (logs, exec, port-forward, proxy) is refused with 501.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from dynamic_memory.embedded.apiserver import metadata as meta
from dynamic_memory.embedded.apiserver.bodies import checked
from dynamic_memory.embedded.apiserver.core import AdmissionRequest, Core
from dynamic_memory.embedded.apiserver.decoding import decode_unstored
from dynamic_memory.embedded.apiserver.deleting import Deleting, options_of, other_uid
from dynamic_memory.embedded.apiserver.errors import (
    Cause,
    bad_request,
    conflict,
    invalid,
    method_not_allowed,
    not_found,
    not_implemented,
)
from dynamic_memory.embedded.apiserver.eviction import disruption
from dynamic_memory.embedded.apiserver.forms import decoded
from dynamic_memory.embedded.apiserver.lasting import lasting
from dynamic_memory.embedded.apiserver.records import Object, Record
from dynamic_memory.embedded.apiserver.request import Request, Response, json_response
from dynamic_memory.embedded.apiserver.routes import Route
from dynamic_memory.embedded.apiserver.scale import Scaling
from dynamic_memory.embedded.apiserver.targets import Target, target_of

if TYPE_CHECKING:
    from dynamic_memory.embedded.apiserver.writing import Writing

__all__ = ["COMMON", "Subresources", "success"]

COMMON = frozenset({"", "status", "resize", "ephemeralcontainers", "approval"})
"""Bodies are the object itself."""
_NODE_ONLY = frozenset({"log", "exec", "attach", "portforward", "proxy"})

Decode = Callable[[Request, str], Object]
Tokens = Callable[[Request, Record, Object], Awaitable[Object]]
Logs = Callable[[Request, Object], Response]


def success(resource: Any, name: str, uid: str) -> Object:
    """Return the Status of a deletion."""
    details = {"name": name, "kind": resource.plural, "uid": uid}
    if resource.group:
        details["group"] = resource.group
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


class Subresources:
    """See the module.

    Args:
        core: shared parts.
        writing: the way of writes.
        deleting: the way of deletions.
        decode: reads the body of a request as an object.

    """

    def __init__(self, core: Core, writing: Writing, deleting: Deleting, decode: Decode) -> None:
        self._core = core
        self._writing = writing
        self._deleting = deleting
        self._decode: Decode = lambda request, kind: checked(decode(request, kind), kind)
        self._scaling = Scaling(core, writing)
        self.tokens: Tokens | None = None
        """Makes tokens of service accounts; None = there are none."""
        self.logs: Logs | None = None
        """Answers what a container of a pod has printed; None = nobody knows."""

    @lasting
    async def handle(self, request: Request, route: Route) -> Response:
        """Answer a request to a subresource that is not COMMON.

        Raises:
            StatusError: it cannot be done.

        """
        key = (route.resource.storage.plural, route.subresource)
        if route.subresource in _NODE_ONLY:
            return self._of_node(request, route)
        if route.subresource == "scale":
            return await self._scaling.handle(request, route, self._decode)
        if key == ("pods", "binding"):
            return await self.bind(request, route, self._decode(request, "Binding"))
        if key == ("pods", "eviction"):
            return await self._evict(request, route)
        if key == ("serviceaccounts", "token"):
            return await self._token(request, route)
        if key == ("namespaces", "finalize"):
            return await self._finalize(request, route)
        raise method_not_allowed(route.resource, route.verb)

    def _of_node(self, request: Request, route: Route) -> Response:
        """Answer what the node of a pod has to answer."""
        record = self._core.store.get(route.resource.storage, (route.namespace, route.name))
        if record is None:
            raise not_found(route.resource, route.name)
        if route.subresource == "log" and self.logs is not None:
            return self.logs(request, record.object)
        what = {"log": "logs", "portforward": "port-forward"}.get(route.subresource, route.subresource)
        raise not_implemented(f"{what} is not available: the nodes of this cluster are simulated")

    def _question(self, target: Target, module: str, kind: str, obj: Object) -> Object:
        """Return a body of another kind than the object.

        Raises:
            StatusError: 400, it is of another kind, or about another object.

        """
        body = decode_unstored(self._core.registry, target, module, kind, obj)
        metadata = body.get("metadata") or {}
        if (metadata.get("namespace") or target.namespace) != target.namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        if kind != "TokenRequest" and (metadata.get("name") or "") != target.name:
            raise bad_request(f"name in URL does not match name in {kind} object")
        return body

    # --- pods

    async def bind(self, request: Request, route: Route, binding: Object) -> Response:
        """Put a pod on a node."""
        target = target_of(request, route, "CreateOptions")
        binding = self._question(target, "core_v1", "Binding", binding)
        said = binding.get("target")
        goal = said if isinstance(said, dict) else {}
        node = goal.get("name")
        if not node or not isinstance(node, str):
            cause = Cause("FieldValueRequired", "Required value", "target.name")
            raise invalid("", "Binding", route.name, [cause])
        if (goal.get("kind") or "Node") != "Node":
            text = f'Unsupported value: "{goal["kind"]}": supported values: "Node", "<empty>"'
            raise invalid("", "Binding", route.name, [Cause("FieldValueNotSupported", text, "target.kind")])
        metadata = binding.get("metadata") or {}
        uid, version = metadata.get("uid") or "", metadata.get("resourceVersion") or ""

        def change(old: Object) -> Object:
            self._writing.same_object(target, old, uid, version)
            if old["metadata"].get("deletionTimestamp"):
                raise conflict(
                    target.resource, route.name, f"pod {route.name} is being deleted, cannot be assigned to a host"
                )
            spec = old["spec"]
            if spec.get("nodeName"):
                raise conflict(
                    target.resource, route.name, f'pod {route.name} is already assigned to node "{spec["nodeName"]}"'
                )
            if spec.get("schedulingGates"):
                raise conflict(target.resource, route.name, f"pod {route.name} has non-empty .spec.schedulingGates")
            spec["nodeName"] = node
            for name in ("annotations", "labels"):
                if metadata.get(name):
                    old["metadata"][name] = {**(old["metadata"].get(name) or {}), **metadata[name]}
            _scheduled(old, self._core.clock.stamp())
            return old

        target.subresource = "binding"
        await self._writing.change(target, change)
        return json_response(
            201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        )

    async def _evict(self, request: Request, route: Route) -> Response:
        target = target_of(request, route, "CreateOptions")
        body = self._question(target, "policy_v1", "Eviction", self._decode(request, "Eviction"))
        said = body.get("deleteOptions")
        options = options_of(request, said if isinstance(said, dict) else {})
        await self._core.admission.validate(self._created(request, route, body, dry_run=options.dry_run))
        record = self._core.store.head(route.resource.storage, (route.namespace, route.name))
        if record is None:
            raise not_found(route.resource, route.name)
        if options.uid and options.uid != record.uid:
            raise other_uid(route.resource, record, options.uid)
        await disruption(self._core, record, dry_run=options.dry_run)
        await self._deleting.delete(route.resource, route.namespace, route.name, options, request)
        return json_response(
            201, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}
        )

    def _created(self, request: Request, route: Route, body: Object, *, dry_run: bool) -> AdmissionRequest:
        return AdmissionRequest(
            "CREATE",
            route.resource,
            route.subresource,
            route.name,
            route.namespace,
            body,
            None,
            {},
            request.user,
            dry_run,
            request.warnings,
            request.audit,
        )

    # --- service accounts and namespaces

    async def _token(self, request: Request, route: Route) -> Response:
        record = self._core.store.get(route.resource.storage, (route.namespace, route.name))
        if record is None:
            raise not_found(route.resource, route.name)
        target, kind = target_of(request, route, "CreateOptions"), "TokenRequest"
        body = self._question(target, "authentication_v1", kind, self._decode(request, kind))
        dry_run = target.dry_run
        shown = {**body, "metadata": {"name": route.name, "namespace": route.namespace, **(body.get("metadata") or {})}}
        await self._core.admission.validate(self._created(request, route, shown, dry_run=dry_run))
        if self.tokens is None:
            raise not_implemented("tokens of service accounts are not issued by this server")
        return json_response(201, await self.tokens(request, record, body))

    async def _finalize(self, request: Request, route: Route) -> Response:
        body = self._decode(request, "Namespace")
        target = target_of(request, route, "UpdateOptions")
        meta.named(body, route.name)
        meta.check_names(body, route.resource, "", route.name)
        wanted = (body.get("spec") or {}).get("finalizers")
        version = body["metadata"].get("resourceVersion") or ""
        written = await self._writing.change(target, lambda old: finalized(old, wanted), version=version)
        return json_response(200, decoded(route.resource, written.record))


def finalized(namespace: Object, wanted: list[str] | None) -> Object:
    """Return a namespace with other finalizers of its spec."""
    spec = dict(namespace.get("spec") or {})
    spec.pop("finalizers", None)
    if wanted:
        spec["finalizers"] = wanted
    return {**namespace, "spec": spec}


def _scheduled(pod: Object, now: str) -> None:
    status = pod.setdefault("status", {})
    others = [entry for entry in status.get("conditions") or () if entry.get("type") != "PodScheduled"]
    status["conditions"] = [
        *others,
        {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now},
    ]
