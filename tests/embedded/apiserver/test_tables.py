# SPDX-License-Identifier: Apache-2.0
"""A34: tables as the real server prints them; each row is what kubectl shows of an object with `-o wide`."""

from __future__ import annotations

import datetime as dt

import pytest

from dynamic_memory.embedded.apiserver.errors import StatusError
from dynamic_memory.embedded.apiserver.resource import Column, Resource
from dynamic_memory.embedded.apiserver.schema import Schema
from dynamic_memory.embedded.apiserver.table.duration import human_duration
from dynamic_memory.embedded.apiserver.table.jsonpath import parse_path
from dynamic_memory.embedded.apiserver.table.render import Tables, include_object
from dynamic_memory.errors import InvalidInput

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
MADE = "2026-03-01T11:55:50Z"


def table(group, kind, obj, *, columns=(), builtin=True, **options):
    resource = Resource(group, "v1", kind, kind.lower() + "s", True, columns=columns, builtin=builtin)
    obj = {
        "metadata": {"name": "x", "creationTimestamp": MADE, "resourceVersion": "7"} | obj.pop("metadata", {}),
        **obj,
    }
    return Tables().render_one(resource, obj, now=NOW, **options)


def shown(found):
    return [
        (d["name"].upper(), cell) for d, cell in zip(found["columnDefinitions"], found["rows"][0]["cells"], strict=True)
    ]


def row(group, kind, obj, **options):
    found = table(group, kind, obj, **options)
    assert len(found["columnDefinitions"]) == len(found["rows"][0]["cells"])
    return found["rows"][0]["cells"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-2, "<invalid>"),
        (-1.5, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (250, "4m10s"),
        (599, "9m59s"),
        (600, "10m"),
        (179 * 60 + 59, "179m"),
        (3 * 3600, "3h"),
        (7 * 3600 + 300, "7h5m"),
        (8 * 3600 + 300, "8h"),
        (47 * 3600, "47h"),
        (48 * 3600, "2d"),
        (51 * 3600, "2d3h"),
        (8 * 86400 + 3600, "8d"),
        (729 * 86400, "729d"),
        (842 * 86400, "2y112d"),
        (730 * 86400, "2y"),
        (9 * 365 * 86400 + 86400, "9y"),
    ],
)
def test_ages_have_two_or_three_figures(seconds, text):
    assert human_duration(seconds) == text


def status(ready, state, restarts=0, last=None, **more):
    found = {"name": "c", "ready": ready, "state": state, "restartCount": restarts, **more}
    return found | ({"lastState": {"terminated": {"finishedAt": last}}} if last else {})


RUNNING = {"running": {"startedAt": MADE}}
ONE = {"containers": [{"name": "c", "image": "i"}]}
WITH_INIT = ONE | {"initContainers": [{"name": "c"}, {"name": "d"}]}
SIDECAR = ONE | {"initContainers": [{"name": "c", "restartPolicy": "Always"}]}
READY = [{"type": "Ready", "status": "True"}]
DELETED = {"deletionTimestamp": MADE}


@pytest.mark.parametrize(
    ("case", "spec", "state", "metadata", "expected"),
    [
        ("pending", ONE, {"phase": "Pending"}, {}, ["0/1", "Pending", "0"]),
        (
            "gated",
            ONE,
            {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]},
            {},
            ["0/1", "SchedulingGated", "0"],
        ),
        (
            "running",
            ONE,
            {"phase": "Running", "containerStatuses": [status(True, RUNNING)]},
            {},
            ["1/1", "Running", "0"],
        ),
        (
            "restarted",
            ONE,
            {"phase": "Running", "containerStatuses": [status(True, RUNNING, 3, "2026-03-01T11:59:00Z")]},
            {},
            ["1/1", "Running", "3 (60s ago)"],
        ),
        (
            "crash loop",
            ONE,
            {"phase": "Running", "containerStatuses": [status(False, {"waiting": {"reason": "CrashLoopBackOff"}}, 2)]},
            {},
            ["0/1", "CrashLoopBackOff", "2"],
        ),
        (
            "completed",
            ONE,
            {
                "phase": "Succeeded",
                "containerStatuses": [status(False, {"terminated": {"reason": "Completed", "exitCode": 0}})],
            },
            {},
            ["0/1", "Completed", "0"],
        ),
        (
            "error beside completed",
            ONE,
            {
                "phase": "Failed",
                "containerStatuses": [
                    status(False, {"terminated": {"reason": "Completed", "exitCode": 0}}),
                    status(False, {"terminated": {"reason": "Error", "exitCode": 1}}),
                ],
            },
            {},
            ["0/1", "Error", "0"],
        ),
        (
            "one ended, one runs",
            ONE | {"containers": [{"name": "c"}, {"name": "d"}]},
            {
                "phase": "Running",
                "conditions": READY,
                "containerStatuses": [
                    status(False, {"terminated": {"reason": "Completed", "exitCode": 0}}),
                    status(True, RUNNING),
                ],
            },
            {},
            ["1/2", "Running", "0"],
        ),
        (
            "exit code alone",
            ONE,
            {"phase": "Failed", "containerStatuses": [status(False, {"terminated": {"exitCode": 137}})]},
            {},
            ["0/1", "ExitCode:137", "0"],
        ),
        (
            "signal",
            ONE,
            {"phase": "Failed", "containerStatuses": [status(False, {"terminated": {"exitCode": 137, "signal": 9}})]},
            {},
            ["0/1", "Signal:9", "0"],
        ),
        ("evicted", ONE, {"phase": "Failed", "reason": "Evicted"}, {}, ["0/1", "Evicted", "0"]),
        (
            "init waits",
            WITH_INIT,
            {
                "phase": "Pending",
                "initContainerStatuses": [status(False, {"waiting": {"reason": "PodInitializing"}}), status(False, {})],
            },
            {},
            ["0/1", "Init:0/2", "0"],
        ),
        (
            "init, second",
            WITH_INIT,
            {
                "phase": "Pending",
                "initContainerStatuses": [status(True, {"terminated": {"exitCode": 0}}), status(False, RUNNING)],
            },
            {},
            ["0/1", "Init:1/2", "0"],
        ),
        (
            "init failed",
            WITH_INIT,
            {"phase": "Pending", "initContainerStatuses": [status(False, {"terminated": {"exitCode": 4}}, 1)]},
            {},
            ["0/1", "Init:ExitCode:4", "1"],
        ),
        (
            "init crash loop",
            WITH_INIT,
            {"phase": "Pending", "initContainerStatuses": [status(False, {"waiting": {"reason": "CrashLoopBackOff"}})]},
            {},
            ["0/1", "Init:CrashLoopBackOff", "0"],
        ),
        (
            "sidecar",
            SIDECAR,
            {
                "phase": "Running",
                "initContainerStatuses": [status(True, RUNNING, 1, started=True)],
                "containerStatuses": [status(True, RUNNING)],
            },
            {},
            ["2/2", "Running", "1"],
        ),
        ("deleted", ONE, {"phase": "Running"}, DELETED, ["0/1", "Terminating", "0"]),
        ("node lost", ONE, {"phase": "Running", "reason": "NodeLost"}, DELETED, ["0/1", "Unknown", "0"]),
        ("deleted when over", ONE, {"phase": "Succeeded"}, DELETED, ["0/1", "Succeeded", "0"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_A34_pod(case, spec, state, metadata, expected):
    cells = row("", "Pod", {"metadata": metadata, "spec": spec, "status": state})
    assert cells[:1] + cells[4:] == ["x", "4m10s", "<none>", "<none>", "<none>", "<none>"]
    assert cells[1:4] == expected


def test_A34_pod_wide():
    pod = {
        "spec": ONE | {"nodeName": "n1", "readinessGates": [{"conditionType": "A"}, {"conditionType": "B"}]},
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.0.0.1"}],
            "nominatedNodeName": "n2",
            "conditions": [{"type": "A", "status": "True"}],
        },
    }
    found = table("", "Pod", pod)
    assert shown(found) == [
        ("NAME", "x"),
        ("READY", "0/1"),
        ("STATUS", "Running"),
        ("RESTARTS", "0"),
        ("AGE", "4m10s"),
        ("IP", "10.0.0.1"),
        ("NODE", "n1"),
        ("NOMINATED NODE", "n2"),
        ("READINESS GATES", "1/2"),
    ]
    assert [d["name"] for d in found["columnDefinitions"] if d["priority"]] == [
        "IP",
        "Node",
        "Nominated Node",
        "Readiness Gates",
    ]


def test_rows_of_pods_that_are_over_say_so():
    assert table("", "Pod", {"status": {"phase": "Failed"}})["rows"][0]["conditions"] == [
        {"type": "Completed", "status": "True", "reason": "Failed", "message": "The pod failed."}
    ]
    assert "conditions" not in table("", "Pod", {"status": {"phase": "Running"}})["rows"][0]


TEMPLATE = {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}}
SELECT = {"matchLabels": {"app": "x"}}
DEPLOYMENT = {"replicas": 3, "selector": SELECT, "template": TEMPLATE}
NODE = {
    "conditions": [{"type": "Ready", "status": "True"}],
    "addresses": [{"type": "InternalIP", "address": "10.1.1.1"}],
    "nodeInfo": {
        "kubeletVersion": "v1.37.0",
        "osImage": "Debian",
        "kernelVersion": "6.12",
        "architecture": "amd64",
        "containerRuntimeVersion": "containerd://2.1",
    },
}
SERVICE = {"type": "ClusterIP", "clusterIPs": ["10.0.0.9"], "ports": [{"port": 80, "protocol": "TCP"}]}
EVENT = {
    "type": "Warning",
    "reason": "Failed",
    "message": " no\n",
    "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec"},
    "source": {"component": "kubelet", "host": "n1"},
    "firstTimestamp": MADE,
    "lastTimestamp": "2026-03-01T11:59:55Z",
    "count": 4,
}
ROLE_REF = {"kind": "ClusterRole", "name": "admin"}
SUBJECTS = [
    {"kind": "User", "name": "u"},
    {"kind": "User", "name": "v"},
    {"kind": "Group", "name": "g"},
    {"kind": "ServiceAccount", "namespace": "n", "name": "s"},
]
RBAC = "rbac.authorization.k8s.io"
DRA = "resource.k8s.io"
POLICY = "admissionregistration.k8s.io"


@pytest.mark.parametrize(
    ("group", "kind", "obj", "expected"),
    [
        ("", "Namespace", {"status": {"phase": "Active"}}, ["x", "Active", "4m10s"]),
        ("", "ConfigMap", {"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}, ["x", 3, "4m10s"]),
        ("", "Secret", {"type": "Opaque", "data": {"a": ""}}, ["x", "Opaque", 1, "4m10s"]),
        ("", "ServiceAccount", {}, ["x", "4m10s"]),
        (
            "",
            "Node",
            {"metadata": {"labels": {"node-role.kubernetes.io/b": "", "kubernetes.io/role": "a"}}, "status": NODE},
            [
                "x",
                "Ready",
                "a,b",
                "4m10s",
                "v1.37.0",
                "10.1.1.1",
                "<none>",
                "Debian",
                "6.12 (amd64)",
                "containerd://2.1",
            ],
        ),
        (
            "",
            "Node",
            {"spec": {"unschedulable": True}},
            ["x", "Unknown,SchedulingDisabled", "<none>", "4m10s", "", "<none>", "<none>", *["<unknown>"] * 3],
        ),
        ("", "Service", {"spec": SERVICE}, ["x", "ClusterIP", "10.0.0.9", "<none>", "80/TCP", "4m10s", "<none>"]),
        (
            "",
            "Service",
            {
                "spec": {
                    "type": "LoadBalancer",
                    "selector": {"b": "2", "a": "1"},
                    "ports": [{"port": 1, "nodePort": 30001, "protocol": "UDP"}, {"port": 2, "protocol": "TCP"}],
                }
            },
            ["x", "LoadBalancer", "<none>", "<pending>", "1:30001/UDP,2/TCP", "4m10s", "a=1,b=2"],
        ),
        (
            "apps",
            "Deployment",
            {"spec": DEPLOYMENT, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}},
            ["x", "2/3", 3, 1, "4m10s", "a,b", "i:1,j", "app=x"],
        ),
        (
            "apps",
            "ReplicaSet",
            {
                "spec": {"replicas": 2, "template": TEMPLATE, "selector": {"matchLabels": {"z": "1", "a": "2"}}},
                "status": {"replicas": 1},
            },
            ["x", 2, 1, 0, "4m10s", "a,b", "i:1,j", "a=2,z=1"],
        ),
        (
            "apps",
            "DaemonSet",
            {
                "spec": {"selector": {"matchExpressions": [{"key": "k", "operator": "NotIn", "values": ["c", "b"]}]}},
                "status": {"desiredNumberScheduled": 5, "numberReady": 4},
            },
            ["x", 5, 0, 4, 0, 0, "<none>", "4m10s", "", "", "k notin (b,c)"],
        ),
        ("apps", "StatefulSet", {"spec": {"replicas": 1, "template": TEMPLATE}}, ["x", "0/1", "4m10s", "a,b", "i:1,j"]),
        (
            "batch",
            "Job",
            {"spec": {"completions": 3}, "status": {"succeeded": 1, "startTime": "2026-03-01T11:58:00Z"}},
            ["x", "Running", "1/3", "2m", "4m10s", "", "", "<none>"],
        ),
        (
            "batch",
            "Job",
            {
                "spec": {"parallelism": 2},
                "status": {
                    "succeeded": 1,
                    "startTime": "2026-03-01T11:58:00Z",
                    "completionTime": "2026-03-01T11:58:09Z",
                    "conditions": [{"type": "Complete", "status": "True"}],
                },
            },
            ["x", "Complete", "1/1 of 2", "9s", "4m10s", "", "", "<none>"],
        ),
        (
            "batch",
            "CronJob",
            {"spec": {"schedule": "* * * * *", "suspend": False}},
            ["x", "* * * * *", "<none>", "False", 0, "<none>", "4m10s", "", "", "<none>"],
        ),
        (
            "",
            "Event",
            dict(EVENT),
            ["5s", "Warning", "Failed", "pod/p", "spec", "kubelet, n1", "no", "4m10s", 4, "x"],
        ),
        (
            "events.k8s.io",
            "Event",
            {
                "eventTime": MADE,
                "type": "Normal",
                "reason": "R",
                "note": "n",
                "regarding": {"kind": "Node"},
                "reportingController": "c",
                "series": {"count": 3, "lastObservedTime": "2026-03-01T11:59:50Z"},
            },
            ["10s", "Normal", "R", "node", "", "c", "n", "4m10s", 3, "x"],
        ),
        ("coordination.k8s.io", "Lease", {"spec": {"holderIdentity": "me"}}, ["x", "me", "4m10s"]),
        (
            "policy",
            "PodDisruptionBudget",
            {"spec": {"maxUnavailable": "10%"}, "status": {"disruptionsAllowed": 2}},
            ["x", "N/A", "10%", 2, "4m10s"],
        ),
        (
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            {
                "spec": {
                    "group": "g",
                    "scope": "Cluster",
                    "names": {"kind": "K", "shortNames": ["a", "b"]},
                    "versions": [
                        {"name": "v2", "served": True},
                        {"name": "v1", "served": True, "storage": True},
                        {"name": "v0"},
                    ],
                },
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            },
            ["x", "Cluster", "v1(storage),v2", MADE, "g", "K", "a,b", True],
        ),
        (RBAC, "Role", {}, ["x", MADE]),
        (RBAC, "ClusterRole", {}, ["x", MADE]),
        (
            RBAC,
            "ClusterRoleBinding",
            {"roleRef": ROLE_REF, "subjects": SUBJECTS},
            ["x", "ClusterRole/admin", "4m10s", "u, v", "g", "n/s"],
        ),
        (
            "certificates.k8s.io",
            "CertificateSigningRequest",
            {
                "spec": {"signerName": "s/n", "username": "u", "expirationSeconds": 3600},
                "status": {"conditions": [{"type": "Approved"}], "certificate": "eA=="},
            },
            ["x", "4m10s", "s/n", "u", "60m", "Approved,Issued"],
        ),
        (DRA, "ResourceClaim", {}, ["x", "pending", "4m10s"]),
        (
            DRA,
            "ResourceClaim",
            {"status": {"allocation": {}, "reservedFor": [{"name": "p"}]}},
            ["x", "allocated,reserved", "4m10s"],
        ),
        (DRA, "ResourceClaim", {"metadata": DELETED}, ["x", "deleted", "4m10s"]),
        (
            DRA,
            "ResourceClaim",
            {"metadata": DELETED, "status": {"allocation": {}}},
            ["x", "deleted,allocated", "4m10s"],
        ),
        (DRA, "ResourceClaimTemplate", {}, ["x", "4m10s"]),
        (DRA, "DeviceClass", {}, ["x", "4m10s"]),
        (
            DRA,
            "ResourceSlice",
            {"spec": {"nodeName": "n", "driver": "d", "pool": {"name": "p"}}},
            ["x", "n", "d", "p", "4m10s"],
        ),
        (
            POLICY,
            "ValidatingAdmissionPolicy",
            {"spec": {"validations": [{}, {}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}},
            ["x", 2, "v1/ConfigMap", "4m10s"],
        ),
        (POLICY, "MutatingAdmissionPolicy", {"spec": {"mutations": [{}]}}, ["x", 1, "<unset>", "4m10s"]),
        (
            POLICY,
            "ValidatingAdmissionPolicyBinding",
            {"spec": {"policyName": "p", "paramRef": {"name": "c"}}},
            ["x", "p", "*/c", "4m10s"],
        ),
        (
            POLICY,
            "MutatingAdmissionPolicyBinding",
            {
                "spec": {
                    "policyName": "p",
                    "paramRef": {
                        "selector": {
                            "matchLabels": {"a": "b"},
                            "matchExpressions": [{"key": "k", "operator": "In", "values": ["v", "w"]}],
                        }
                    },
                }
            },
            [
                "x",
                "p",
                (
                    "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{"
                    "LabelSelectorRequirement{Key:k,Operator:In,Values:[v w],},},}"
                ),
                "4m10s",
            ],
        ),
        (
            "",
            "ResourceQuota",
            {"status": {"hard": {"pods": "10", "limits.cpu": "2", "cpu": "1"}, "used": {"pods": "3", "cpu": "500m"}}},
            ["x", "cpu: 500m/1, pods: 3/10", "limits.cpu: 0/2", "4m10s"],
        ),
        (
            "autoscaling",
            "HorizontalPodAutoscaler",
            {
                "spec": {
                    "scaleTargetRef": {"kind": "Deployment", "name": "d"},
                    "maxReplicas": 5,
                    "metrics": [
                        {"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 80}}}
                    ],
                },
            },
            ["x", "Deployment/d", "cpu: <unknown>/80%", "<unset>", 5, 0, "4m10s"],
        ),
        (
            "networking.k8s.io",
            "Ingress",
            {"spec": {"rules": [{"host": h} for h in "abcd"], "tls": [{}]}},
            ["x", "<none>", "a,b,c + 1 more...", "", "80, 443", "4m10s"],
        ),
        (
            "",
            "Endpoints",
            {"subsets": [{"addresses": [{"ip": "::1"}, {"ip": "10.0.0.1"}], "ports": [{"port": 80}, {"port": 443}]}]},
            ["x", "[::1]:80,10.0.0.1:80,[::1]:443 + 1 more...", "4m10s"],
        ),
        ("", "Endpoints", {}, ["x", "<none>", "4m10s"]),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            {"addressType": "IPv4", "ports": [{"port": 80}, {"name": "any"}], "endpoints": []},
            ["x", "IPv4", "80,any", "<unset>", "4m10s"],
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            {"spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Exists"}]}}},
            ["x", "a", "4m10s"],
        ),
        (
            "",
            "PersistentVolumeClaim",
            {
                "spec": {"volumeName": "v", "storageClassName": "s", "volumeMode": "Filesystem"},
                "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"]},
            },
            ["x", "Bound", "v", "1Gi", "RWO", "s", "<unset>", "4m10s", "Filesystem"],
        ),
        (
            "",
            "PersistentVolume",
            {
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadOnlyMany", "ReadWriteOnce"],
                    "persistentVolumeReclaimPolicy": "Retain",
                    "claimRef": {"namespace": "n", "name": "c"},
                },
                "status": {"phase": "Bound"},
            },
            ["x", "1Gi", "RWO,ROX", "Retain", "Bound", "n/c", "", "<unset>", "", "4m10s", "<unset>"],
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            {
                "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                "provisioner": "p",
                "allowVolumeExpansion": True,
            },
            ["x (default)", "p", "Delete", "Immediate", True, "4m10s"],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            {"value": 5, "preemptionPolicy": "Never"},
            ["x", 5, False, "4m10s", "Never"],
        ),
        (
            DRA,
            "DeviceTaintRule",
            {"spec": {"taint": {"key": "k", "value": "v", "effect": "NoSchedule", "timeAdded": MADE}}},
            ["x", "k", "v", "NoSchedule", "4m10s", "4m10s"],
        ),
        ("devmgmtproto.k8s.io", "DeviceDriver", {}, ["x", "4m10s"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_A34_tables_of_builtin_kinds(group, kind, obj, expected):
    assert row(group, kind, obj) == expected


def test_descriptions_of_columns_come_from_the_schema():
    name = Schema("string", "its name")
    schema = Schema("object", properties={"metadata": Schema("object", properties={"name": name})})
    resource = Resource("", "v1", "Namespace", "namespaces", False, make_schema=lambda: schema)
    columns = Tables().render(resource, [], {}, now=NOW)["columnDefinitions"]
    assert columns[0] == {"name": "Name", "type": "string", "format": "name", "description": "its name", "priority": 0}
    assert columns[1]["description"] == "The status of the namespace"


def test_A33_printer_columns_of_a_crd():
    columns = (
        Column("Size", "integer", ".spec.size", description="how much"),
        Column("Ready", "string", '.status.conditions[?(@.type=="Ready")].status'),
        Column("Since", "date", ".status.since", priority=1),
        Column("Share", "number", ".spec.share"),
        Column("On", "boolean", ".spec.on"),
        Column("Text", "string", ".spec.map"),
        Column("Wrong", "integer", ".spec.text"),
        Column("Missing", "string", ".spec.nothing[0].x"),
    )
    obj = {
        "spec": {"size": 3, "share": 2, "on": True, "map": {"b": 1, "a": [2]}, "text": "no"},
        "status": {"conditions": [{"type": "A", "status": "x"}, {"type": "Ready", "status": "True"}], "since": MADE},
    }
    found = table("example.com", "Thing", obj, columns=columns, builtin=False)
    assert found["rows"][0]["cells"] == ["x", 3, "True", "4m10s", 2.0, True, '{"a":[2],"b":1}', None, None]
    assert found["columnDefinitions"][1]["description"] == "how much"
    assert found["columnDefinitions"][3]["description"].endswith("column (in JSONPath format): .status.since")
    assert [d["priority"] for d in found["columnDefinitions"]] == [0, 0, 0, 1, 0, 0, 0, 0, 0]


def test_rows_carry_metadata_the_object_or_nothing():
    found = table("", "Secret", {"data": {"a": "eA=="}})
    assert found["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    assert "data" not in found["rows"][0]["object"]
    assert found["metadata"] == {"resourceVersion": "7"}
    assert table("", "Secret", {"data": {"a": "eA=="}}, include="Object")["rows"][0]["object"]["data"] == {"a": "eA=="}
    assert table("", "Secret", {}, include="None")["rows"][0]["object"] is None
    assert table("", "Secret", {}, headers=False)["columnDefinitions"] == []
    beta = table("", "Secret", {}, version="v1beta1")
    assert beta["apiVersion"] == beta["rows"][0]["object"]["apiVersion"] == "meta.k8s.io/v1beta1"


def test_include_object_is_checked():
    assert include_object({}) == "Metadata"
    assert include_object({"includeObject": ["Object"]}) == "Object"
    with pytest.raises(StatusError, match='includeObject: Unsupported value: "All"') as caught:
        include_object({"includeObject": ["All"]})
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".a.b", [1]),
        ("{.a.b}", [1]),
        ("$.a['b']", [1]),
        (".a.x\\.y/z", ["dot"]),
        (".a['x.y/z']", ["dot"]),
        (".list[0].n", ["one"]),
        (".list[-1].n", ["three"]),
        (".list[1:].n", ["two", "three"]),
        (".list[0,2].n", ["one", "three"]),
        (".list[*].n", ["one", "two", "three"]),
        (".list[?(@.v>1)].n", ["two", "three"]),
        (".list[?(@.n=='two')].v", [2]),
        (".list[?(@.extra)].n", ["three"]),
        (".list[?(@.n > 1)].n", []),
        (".list[7].n", []),
        (".nothing.at.all", []),
        (".a[0]", []),
    ],
)
def test_json_paths(path, expected):
    data = {
        "a": {"b": 1, "x.y/z": "dot"},
        "list": [{"n": "one", "v": 1}, {"n": "two", "v": 2}, {"n": "three", "v": 3, "extra": 0}],
    }
    assert parse_path(path)(data) == expected


@pytest.mark.parametrize("path", [".a[", ".a[b]", ".a[?(x)]", ".a[?(@.b==c)]", ".a" * 1000, ".a[1:2:3:4]", ".a]"])
def test_json_paths_outside_of_the_subset_are_refused(path):
    with pytest.raises(InvalidInput):
        parse_path(path)
