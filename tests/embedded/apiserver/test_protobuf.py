# SPDX-License-Identifier: Apache-2.0
"""A35: the protobuf bodies of kubectl ≥ 1.32, byte by byte.

Bodies are built by an encoder of ten lines that knows nothing of the tables: each test states the field numbers of
k8s.io/api itself, with the empty fields that Go writes along.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.protobuf import decode, tables


def number(value):
    value %= 1 << 64
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(index, value):
    if isinstance(value, bool | int):
        return number(index << 3) + number(int(value))
    data = value.encode() if isinstance(value, str) else value
    return number(index << 3 | 2) + number(len(data)) + data


def message(*fields):
    """Return a message of (number, value) pairs."""
    return b"".join(field(index, value) for index, value in fields)


def body(api_version, kind, raw):
    head = message((1, api_version), (2, kind))
    return b"k8s\0" + message((1, head), (2, raw), (3, ""), (4, ""))


EMPTY_TIME = b""


def meta(name, *more):
    """ObjectMeta as a typed client writes it: all strings, an empty creationTimestamp."""
    strings = [(1, name), (2, ""), (3, ""), (4, ""), (5, ""), (6, "")]
    return message(*strings, (7, 0), (8, EMPTY_TIME), *more)


def entry(key, value):
    return message((1, key), (2, value))


def quantity(value):
    return message((1, value))


CONTAINER = message(
    (1, "web"),
    (2, "nginx:1"),
    (5, ""),
    (6, message((1, ""), (2, 0), (3, 80), (4, ""), (5, ""))),
    (7, message((1, "A"), (2, "b"))),
    (7, message((1, "C"), (3, message((4, message((1, message((1, "s"))), (2, "k"))))))),
    (8, message((1, entry("cpu", quantity("1"))), (2, entry("memory", quantity("64Mi"))))),
    (
        10,
        message(
            (1, message((2, message((1, "/"), (2, message((1, 1), (2, 0), (3, "http"))), (4, ""))))), (2, 3), (3, 0)
        ),
    ),
    (13, ""),
    (14, ""),
    (16, False),
    (17, False),
    (18, True),
)
SHOWN = {
    "name": "web",
    "image": "nginx:1",
    "ports": [{"containerPort": 80}],
    "env": [
        {"name": "A", "value": "b"},
        {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
    ],
    "resources": {"limits": {"cpu": "1"}, "requests": {"memory": "64Mi"}},
    "livenessProbe": {"httpGet": {"path": "/", "port": "http"}, "initialDelaySeconds": 3},
    "tty": True,
}
VOLUME = message((1, "v"), (2, message((2, message((1, ""))))))
POD_SPEC = message(
    (1, VOLUME), (2, CONTAINER), (3, "Never"), (6, ""), (8, ""), (10, ""), (11, False), (14, b""), (21, False)
)
TEMPLATE = message((1, meta("", (11, entry("app", "x")))), (2, POD_SPEC))
TEMPLATE_SHOWN = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {
        "volumes": [{"name": "v", "emptyDir": {}}],
        "containers": [SHOWN],
        "restartPolicy": "Never",
        "securityContext": {},
        "automountServiceAccountToken": False,
    },
}
SELECTOR = message((1, entry("app", "x")))
RULE = message((1, "get"), (1, "list"), (2, ""), (3, "pods"), (4, "one"))
RULE_SHOWN = {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["one"]}
RBAC = "rbac.authorization.k8s.io"
CREATED = {"verb": "create", "group": "apps", "resource": "deployments", "namespace": "n"}


@pytest.mark.parametrize(
    ("api_version", "kind", "raw", "expected"),
    [
        (
            "v1",
            "ConfigMap",
            message(
                (1, meta("c")), (2, entry("k", "v")), (2, entry("empty", "")), (3, entry("b", b"\0\xff")), (4, False)
            ),
            {
                "metadata": {"name": "c"},
                "data": {"k": "v", "empty": ""},
                "binaryData": {"b": "AP8="},
                "immutable": False,
            },
        ),
        (
            "v1",
            "Namespace",
            message((1, meta("n")), (2, b""), (3, message((1, "")))),
            {"metadata": {"name": "n"}, "spec": {}, "status": {}},
        ),
        (
            "v1",
            "Secret",
            message((1, meta("s")), (2, entry("p", b"secret")), (3, "Opaque")),
            {"metadata": {"name": "s"}, "data": {"p": "c2VjcmV0"}, "type": "Opaque"},
        ),
        (
            "v1",
            "ServiceAccount",
            message((1, meta("a", (12, entry("note", "x"))))),
            {"metadata": {"name": "a", "annotations": {"note": "x"}}},
        ),
        (
            "v1",
            "ResourceQuota",
            message((1, meta("q")), (2, message((1, entry("cpu", quantity("1"))), (2, "BestEffort"))), (3, b"")),
            {"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}, "status": {}},
        ),
        (
            "v1",
            "Service",
            message(
                (1, meta("s")),
                (
                    2,
                    message(
                        (1, message((1, ""), (2, "TCP"), (3, 80), (4, message((1, 0), (2, 8080), (3, ""))))),
                        (4, "ClusterIP"),
                    ),
                ),
                (3, message((1, b""))),
            ),
            {
                "metadata": {"name": "s"},
                "spec": {"ports": [{"protocol": "TCP", "port": 80, "targetPort": 8080}], "type": "ClusterIP"},
                "status": {"loadBalancer": {}},
            },
        ),
        (
            "apps/v1",
            "Deployment",
            message(
                (1, meta("d")),
                (2, message((1, 0), (2, SELECTOR), (3, TEMPLATE), (4, message((1, ""))), (5, 0), (7, False))),
                (3, message((1, 0), (2, 0), (3, 0))),
            ),
            {
                "metadata": {"name": "d"},
                "spec": {
                    "replicas": 0,
                    "selector": {"matchLabels": {"app": "x"}},
                    "template": TEMPLATE_SHOWN,
                    "strategy": {},
                },
                "status": {},
            },
        ),
        (
            "batch/v1",
            "Job",
            message((1, meta("j")), (2, message((2, 3), (6, TEMPLATE), (7, 0))), (3, b"")),
            {
                "metadata": {"name": "j"},
                "spec": {"completions": 3, "template": TEMPLATE_SHOWN, "backoffLimit": 0},
                "status": {},
            },
        ),
        (
            "batch/v1",
            "CronJob",
            message(
                (1, meta("c")),
                (2, message((1, "* * * * *"), (3, ""), (4, True), (5, message((1, meta("")), (2, b""))))),
                (3, b""),
            ),
            {
                "metadata": {"name": "c"},
                "spec": {
                    "schedule": "* * * * *",
                    "suspend": True,
                    "jobTemplate": {"metadata": {}, "spec": {}},
                },
                "status": {},
            },
        ),
        (f"{RBAC}/v1", "Role", message((1, meta("r")), (2, RULE)), {"metadata": {"name": "r"}, "rules": [RULE_SHOWN]}),
        (
            f"{RBAC}/v1",
            "ClusterRole",
            message((1, meta("r")), (2, RULE), (3, message((1, SELECTOR)))),
            {
                "metadata": {"name": "r"},
                "rules": [RULE_SHOWN],
                "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"app": "x"}}]},
            },
        ),
        (
            f"{RBAC}/v1",
            "ClusterRoleBinding",
            message(
                (1, meta("b")),
                (2, message((1, "User"), (2, RBAC), (3, "u"), (4, ""))),
                (3, message((1, RBAC), (2, "ClusterRole"), (3, "r"))),
            ),
            {
                "metadata": {"name": "b"},
                "subjects": [{"kind": "User", "apiGroup": RBAC, "name": "u"}],
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "r"},
            },
        ),
        (
            "authentication.k8s.io/v1",
            "TokenRequest",
            message(
                (1, meta("")),
                (2, message((1, "a"), (3, message((1, "Pod"), (2, "v1"), (3, "p"), (4, ""))), (4, 600))),
                (3, b""),
            ),
            {
                "metadata": {},
                "spec": {
                    "audiences": ["a"],
                    "boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"},
                    "expirationSeconds": 600,
                },
                "status": {},
            },
        ),
        (
            "authentication.k8s.io/v1",
            "SelfSubjectReview",
            message((1, meta("")), (2, message((1, message((1, ""), (2, "")))))),
            {"metadata": {}, "status": {"userInfo": {}}},
        ),
        (
            "authorization.k8s.io/v1",
            "SelfSubjectAccessReview",
            message(
                (1, meta("")),
                (
                    2,
                    message(
                        (
                            1,
                            message(
                                (1, "n"), (2, "create"), (3, "apps"), (4, ""), (5, "deployments"), (6, ""), (7, "")
                            ),
                        )
                    ),
                ),
                (3, message((1, False))),
            ),
            {"metadata": {}, "spec": {"resourceAttributes": CREATED}, "status": {"allowed": False}},
        ),
        (
            "authorization.k8s.io/v1",
            "SubjectAccessReview",
            message((1, meta("")), (2, message((3, "u"), (4, "g"), (5, entry("scopes", message((1, "a"), (1, "b"))))))),
            {"metadata": {}, "spec": {"user": "u", "groups": ["g"], "extra": {"scopes": ["a", "b"]}}},
        ),
        (
            "autoscaling/v2",
            "HorizontalPodAutoscaler",
            message(
                (1, meta("h")),
                (
                    2,
                    message(
                        (1, message((1, "Deployment"), (2, "d"), (3, "apps/v1"))),
                        (2, 1),
                        (3, 4),
                        (
                            4,
                            message(
                                (1, "Resource"), (4, message((1, "cpu"), (2, message((1, "Utilization"), (4, 80)))))
                            ),
                        ),
                    ),
                ),
                (3, b""),
            ),
            {
                "metadata": {"name": "h"},
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"},
                    "minReplicas": 1,
                    "maxReplicas": 4,
                    "metrics": [
                        {
                            "type": "Resource",
                            "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}},
                        }
                    ],
                },
                "status": {},
            },
        ),
        (
            "policy/v1",
            "PodDisruptionBudget",
            message((1, meta("p")), (2, message((1, message((1, 1), (2, 0), (3, "50%"))), (2, SELECTOR)))),
            {"metadata": {"name": "p"}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"app": "x"}}}},
        ),
        (
            "policy/v1",
            "Eviction",
            message((1, meta("p")), (2, message((1, 0), (4, "Background"), (5, "All")))),
            {
                "metadata": {"name": "p"},
                "deleteOptions": {"gracePeriodSeconds": 0, "propagationPolicy": "Background", "dryRun": ["All"]},
            },
        ),
        (
            "apps/v1",
            "DeleteOptions",
            message((2, message((1, "u"))), (3, False)),
            {"preconditions": {"uid": "u"}, "orphanDependents": False},
        ),
        (
            "scheduling.k8s.io/v1",
            "PriorityClass",
            message((1, meta("p")), (2, -5), (3, False), (4, "d")),
            {"metadata": {"name": "p"}, "value": -5, "description": "d"},
        ),
        (
            "coordination.k8s.io/v1",
            "Lease",
            message(
                (1, meta("l", (8, message((1, 1640995200), (2, 0))))),
                (2, message((1, "me"), (2, 15), (3, message((1, 1640995200), (2, 5000))))),
            ),
            {
                "metadata": {"name": "l", "creationTimestamp": "2022-01-01T00:00:00Z"},
                "spec": {
                    "holderIdentity": "me",
                    "leaseDurationSeconds": 15,
                    "acquireTime": "2022-01-01T00:00:00.000005Z",
                },
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalpha() else "",
)
def test_A35_bodies_become_what_the_client_would_have_sent_as_json(api_version, kind, raw, expected):
    found = decode(body(api_version, kind, raw))
    assert found == {"apiVersion": api_version, "kind": kind, **expected}


def test_fields_that_are_not_known_are_skipped_whatever_their_wire_type():
    raw = (
        message((1, meta("c")), (99, "later"), (100, 7))
        + number(101 << 3 | 1)
        + bytes(8)
        + number(102 << 3 | 5)
        + bytes(4)
    )
    assert decode(body("v1", "ConfigMap", raw))["metadata"] == {"name": "c"}


def test_packed_numbers():
    codes = message((1, "In"), (2, number(1) + number(300)))
    container = message((1, "c"), (24, "Never"), (25, message((1, "Restart"), (2, codes))))
    pod = decode(body("v1", "Pod", message((1, meta("p")), (2, message((2, container))))))
    rules = pod["spec"]["containers"][0]["restartPolicyRules"]
    assert rules == [{"action": "Restart", "exitCodes": {"operator": "In", "values": [1, 300]}}]


def test_owned_fields_are_json_in_bytes():
    owned = message((1, "m"), (2, "Apply"), (3, "v1"), (6, "FieldsV1"), (7, message((1, b'{"f:a":{}}'))), (8, ""))
    found = decode(body("v1", "ConfigMap", message((1, meta("c", (17, owned))))))
    assert found["metadata"]["managedFields"][0]["fieldsV1"] == {"f:a": {}}


GOOD = body("v1", "ConfigMap", message((1, meta("c")), (2, entry("k", "v"))))


def brackets(depth):
    """A ConfigMap whose owned fields are JSON of nothing but opening brackets."""
    return body("v1", "ConfigMap", message((1, meta("c", (17, message((7, message((1, b"[" * depth)))))))))


@pytest.mark.parametrize(
    ("case", "data", "code"),
    [
        ("no prefix", b"{}", 400),
        ("empty", b"", 400),
        ("prefix alone", b"k8s\0", 415),
        ("cut short", GOOD[:-3], 400),
        ("length beyond the end", b"k8s\0" + number(2 << 3 | 2) + number(1 << 40) + b"x", 400),
        ("length of 64 bits", b"k8s\0" + number(2 << 3 | 2) + number((1 << 64) - 1) + b"x", 400),
        ("endless number", b"k8s\0" + b"\xff" * 20, 400),
        ("number too large", b"k8s\0" + b"\x08" + b"\xff" * 9 + b"\x7f", 400),
        ("field zero", b"k8s\0" + b"\x00\x01", 400),
        ("group", b"k8s\0" + b"\x0b\x0c", 400),
        ("head is a number", b"k8s\0" + message((1, 5)), 400),
        ("raw is a number", b"k8s\0" + message((1, message((1, "v1"), (2, "ConfigMap"))), (2, 5)), 400),
        ("kind is no text", b"k8s\0" + message((1, message((1, "v1"), (2, b"\xff")))), 400),
        ("encoded content", b"k8s\0" + message((1, message((1, "v1"), (2, "ConfigMap"))), (3, "gzip")), 400),
        ("unknown kind", body("v1", "Nothing", b""), 415),
        ("unknown group", body("example.com/v1", "Thing", b""), 415),
        ("name of a table", body("v1", "", b""), 415),
        ("name is a number", body("v1", "ConfigMap", message((1, message((1, 3))))), 400),
        ("number is a text", body("v1", "Pod", message((1, meta("p")), (2, message((4, "x"))))), 400),
        ("text is not UTF-8", body("v1", "ConfigMap", message((2, entry("k", b"\xff")))), 400),
        ("time out of range", body("v1", "ConfigMap", message((1, message((8, message((1, 1 << 62))))))), 400),
        ("broken JSON", body("v1", "ConfigMap", message((1, meta("c", (17, message((7, message((1, b"{"))))))))), 400),
        ("deep JSON", brackets(100_000), 400),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_malformed_bodies_are_refused(case, data, code):
    with pytest.raises(StatusError) as caught:
        decode(data)
    assert caught.value.code == code


def test_messages_within_messages_are_bounded(monkeypatch):
    loop = tables.Message("core/v1", "ConfigMap", {1: tables.Field("again", "", "ConfigMap")})
    monkeypatch.setattr("dynamic_memory.embedded.apiserver.protobuf.envelope.message", lambda *_: loop)
    monkeypatch.setattr("dynamic_memory.embedded.apiserver.protobuf.message.message", lambda *_: loop)
    raw = b""
    for _ in range(60):
        raw = message((1, raw))
    assert "again" in decode(body("v1", "ConfigMap", raw))
    for _ in range(10):
        raw = message((1, raw))
    with pytest.raises(StatusError, match="at most 64 messages within each other"):
        decode(body("v1", "ConfigMap", raw))


@given(st.binary(max_size=200))
def test_any_bytes_are_an_object_or_a_refusal(data):
    for raw in (data, b"k8s\0" + data, body("v1", "Pod", data), body("apps/v1", "Deployment", data)):
        try:
            assert isinstance(decode(raw), dict)
        except StatusError as error:
            assert error.code in {400, 415}  # noqa: PT017 - either outcome is fine


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_any_changed_byte_is_an_object_or_a_refusal(place, value):
    changed = bytearray(GOOD)
    changed[place] = value
    try:
        assert isinstance(decode(bytes(changed)), dict)
    except StatusError as error:
        assert error.code in {400, 415}  # noqa: PT017 - either outcome is fine


def test_the_tables_are_whole():
    for package in tables.TABLES:
        for name in tables._lines(package):
            found = tables.message(package, name)
            assert found is not None
            text = tables._lines(package)[name]
            assert len(found.fields) == len(text.split()), (package, name)
            for field in found.fields.values():
                assert field.name or field.mark == "^"
                if re.match("[A-Z]", field.type):
                    assert tables.message(package, field.type) is not None, (package, name, field.type)
                else:
                    assert field.type in {"", "i", "b", "y", "q", "x", "t", "u", "r"}
