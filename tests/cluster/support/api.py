# SPDX-License-Identifier: Apache-2.0
"""A small synchronous client of the API server, for tests that set up and look: plain dictionaries, no cache.

It shares no code with the client of the roles, so that a fault there cannot hide itself here.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

__all__ = ["Api", "ApiError", "Object"]

Object = dict[str, Any]

# kind -> (group and version, plural, namespaced)
RESOURCES = {
    "ConfigMap": ("v1", "configmaps", True),
    "Event": ("v1", "events", True),
    "Namespace": ("v1", "namespaces", False),
    "Node": ("v1", "nodes", False),
    "Pod": ("v1", "pods", True),
    "Secret": ("v1", "secrets", True),
    "Service": ("v1", "services", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "DaemonSet": ("apps/v1", "daemonsets", True),
    "Deployment": ("apps/v1", "deployments", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "Lease": ("coordination.k8s.io/v1", "leases", True),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices", True),
    "CertificateSigningRequest": ("certificates.k8s.io/v1", "certificatesigningrequests", False),
    "ClusterRole": ("rbac.authorization.k8s.io/v1", "clusterroles", False),
    "ClusterRoleBinding": ("rbac.authorization.k8s.io/v1", "clusterrolebindings", False),
    "DeviceClass": ("resource.k8s.io/v1", "deviceclasses", False),
    "DeviceTaintRule": ("resource.k8s.io/v1", "devicetaintrules", False),
    "ResourceClaim": ("resource.k8s.io/v1", "resourceclaims", True),
    "ResourceClaimTemplate": ("resource.k8s.io/v1", "resourceclaimtemplates", True),
    "ResourceSlice": ("resource.k8s.io/v1", "resourceslices", False),
}
STYLES = {
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}


class ApiError(OSError):
    """The API server refused.

    Args:
        code: HTTP status.
        reason: of the Status object, `NotFound`.
        message: for people.

    """

    def __init__(self, code: int, reason: str, message: str) -> None:
        self.code = code
        self.reason = reason
        self.message = message
        super().__init__(f"{code} {reason}: {message}")


class Api:
    """Calls one API server as one identity; safe to use from several threads.

    Args:
        server: `https://127.0.0.1:6443`.
        context: trust, and the client certificate if that is the identity; None for a server without TLS.
        token: bearer token, or None.

    """

    def __init__(self, server: str, context: ssl.SSLContext | None, token: str | None = None) -> None:
        self.server = server
        self._address = urlsplit(server).netloc
        self._context = context
        self._token = token
        self._local = threading.local()
        self._connections: list[http.client.HTTPConnection] = []

    def call(self, method: str, path: str, body: Any = None, content: str = "application/json", **query: str) -> Any:
        """Send one request and return the decoded answer; text that is not JSON is returned as it is.

        Raises:
            ApiError: status 400 and above.

        """
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            headers["Content-Type"] = content
            data = json.dumps(body).encode()
        target = f"{path}?{urlencode(query)}" if query else path
        status, text = self._exchange(method, target, data, headers)
        if status >= http.client.BAD_REQUEST:
            try:
                answer = json.loads(text)
                raise ApiError(status, answer.get("reason", ""), answer.get("message", ""))
            except ValueError:
                raise ApiError(status, "", text.decode(errors="replace")) from None
        try:
            return json.loads(text)
        except ValueError:
            return text.decode(errors="replace")

    def _exchange(self, method: str, target: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        # a kept connection may have been closed meanwhile; only then, and only once, a new one is tried
        for fresh in (False, True):
            connection: http.client.HTTPConnection | None = None if fresh else getattr(self._local, "connection", None)
            kept = connection is not None
            if connection is None:
                connection = self._connect()
                self._local.connection = connection
                self._connections.append(connection)
            try:
                connection.request(method, target, data, headers)
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                self._connections.remove(connection)
                self._local.connection = None
                if not kept:
                    if isinstance(error, OSError):
                        raise
                    raise ConnectionError(str(error)) from error
        raise AssertionError

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._address, timeout=30)
        return http.client.HTTPSConnection(self._address, context=self._context, timeout=30)

    def close(self) -> None:
        """Close the connections of all threads; none of them may be in a call."""
        while self._connections:
            self._connections.pop().close()
        self._local = threading.local()

    def get(self, kind: str, name: str, namespace: str = "", subresource: str = "") -> Object:
        return self.call("GET", _path(kind, namespace, name, subresource))

    def find(self, kind: str, name: str, namespace: str = "") -> Object | None:
        """Return the object, or None if there is none of that name."""
        try:
            return self.get(kind, name, namespace)
        except ApiError as error:
            if error.code == http.client.NOT_FOUND:
                return None
            raise

    def list(self, kind: str, namespace: str = "", labels: str = "", fields: str = "") -> list[Object]:
        query = {key: value for key, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        return self.call("GET", _path(kind, namespace), **query)["items"]

    def snapshot(self, kind: str, namespace: str = "") -> tuple[list[Object], str]:
        """Return all objects of a kind, and the version of which this is true."""
        answer = self.call("GET", _path(kind, namespace))
        return answer["items"], answer["metadata"]["resourceVersion"]

    def version(self, kind: str, namespace: str = "") -> str:
        """Return the version that a watch over all objects of a kind may begin with."""
        version: str = self.call("GET", _path(kind, namespace), limit="1")["metadata"]["resourceVersion"]
        return version

    def watch(
        self,
        kind: str,
        namespace: str,
        version: str,
        seconds: int,
        opened: Callable[[socket.socket], None] = lambda _: None,
    ) -> Iterator[bytes]:
        """Yield the events of a watch, one JSON text each, until the server ends it after some seconds.

        `opened` is given the socket, by which another thread can end it (`shutdown`).
        """
        query = {"watch": "1", "resourceVersion": version, "timeoutSeconds": str(seconds)}
        headers = {"Accept": "application/json"}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connect()
        try:
            connection.request("GET", f"{_path(kind, namespace)}?{urlencode(query)}", headers=headers)
            opened(connection.sock)
            answer = connection.getresponse()
            if answer.status != http.client.OK:
                raise ApiError(answer.status, "", answer.read().decode(errors="replace"))
            yield from answer
        finally:
            connection.close()

    def create(self, body: Mapping[str, Any], namespace: str = "", **query: str) -> Object:
        """Create an object; unknown fields are refused."""
        group, plural, namespaced = RESOURCES[body["kind"]]
        assert body["apiVersion"] == group, f"{plural} are {group}"
        namespace = body["metadata"].get("namespace", namespace) if namespaced else ""
        return self.call("POST", _path(body["kind"], namespace), dict(body), fieldValidation="Strict", **query)

    def patch(
        self,
        kind: str,
        name: str,
        body: Any,
        namespace: str = "",
        *,
        style: str = "merge",
        subresource: str = "",
        **query: str,
    ) -> Object:
        return self.call("PATCH", _path(kind, namespace, name, subresource), body, STYLES[style], **query)

    def apply(
        self, body: Mapping[str, Any], namespace: str = "", *, manager: str = "test", subresource: str = ""
    ) -> Object:
        """Apply an object on the server's side."""
        meta = body["metadata"]
        return self.patch(
            body["kind"],
            meta["name"],
            dict(body),
            meta.get("namespace", namespace) if RESOURCES[body["kind"]][2] else "",
            style="apply",
            subresource=subresource,
            fieldManager=manager,
            force="true",
        )

    def delete(
        self, kind: str, name: str, namespace: str = "", *, grace: int | None = None, missing_ok: bool = False
    ) -> None:
        body = None if grace is None else {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": grace}
        try:
            self.call("DELETE", _path(kind, namespace, name), body)
        except ApiError as error:
            if not (missing_ok and error.code == http.client.NOT_FOUND):
                raise

    def token(self, service_account: str, namespace: str, pod: Object | None = None, seconds: int = 3600) -> str:
        """Return a token of a service account, bound to a pod if one is given (and so to the pod's node)."""
        spec: Object = {"expirationSeconds": seconds}
        if pod is not None:
            meta = pod["metadata"]
            spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": meta["name"], "uid": meta["uid"]}
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self.call("POST", _path("ServiceAccount", namespace, service_account, "token"), body)
        token: str = answer["status"]["token"]
        return token


def _path(kind: str, namespace: str, name: str = "", subresource: str = "") -> str:
    group, plural, namespaced = RESOURCES[kind]
    parts = ["api" if "/" not in group else "apis", group]
    if namespaced and namespace:
        parts += ["namespaces", namespace]
    assert namespace or not (namespaced and name), f"{kind} {name}: which namespace?"
    parts += [plural, *([quote(name)] if name else []), *([subresource] if subresource else [])]
    return "/" + "/".join(parts)
