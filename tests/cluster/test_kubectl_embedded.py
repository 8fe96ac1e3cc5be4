# SPDX-License-Identifier: Apache-2.0
"""Our API server and the real one, asked the same by the same kubectl: what people see is the same.

Beside the real server run only those controllers whose work our server does itself (namespaces, default service
accounts, the root certificate, garbage), so that objects stay as they are written on both. Names of hosts, times,
versions, uids and addresses are masked, and runs of spaces count as one.

    pytest tests/cluster/test_kubectl_embedded.py --kubernetes 1.37
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.cluster.support.control_plane import VERSIONS, ControlPlane
from tests.cluster.support.processes import Child, NotInTime, eventually, patient
from tools.cluster.build import find

ROOT = Path(__file__).parents[2]
CONTROLLERS = (
    "serviceaccount-controller",
    "root-ca-certificate-publisher-controller",
    "namespace-controller",
    "garbage-collector-controller",
    "clusterrole-aggregation-controller",
)
TOKENS = 'admin,admin,admin,"system:masters"\njane,jane,jane,team\n'

FILES = {
    "app.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: conf, labels: {app: x}}
data: {a: "1", b: "2"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:1", ports: [{containerPort: 80}], resources: {requests: {cpu: 500m, memory: 64Mi}}}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
""",
    "changed.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - {name: c, image: "nginx:2", resources: {requests: {cpu: 250m}}}
      - {name: d, image: "busybox"}
""",
    "wrong.yaml": """
apiVersion: apps/v1
kind: Deployment
metadata: {name: wrong}
spec: {replicas: -1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: []}}}
""",
    "unknown.yaml": """
apiVersion: v1
kind: ConfigMap
metadata: {name: unknown}
dta: {a: b}
""",
    "crd.yaml": """
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
spec:
  group: example.com
  names: {plural: things, singular: thing, kind: Thing, shortNames: [th], categories: [stuff]}
  scope: Namespaced
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    - {name: Note, type: string, jsonPath: .spec.note, priority: 1}
    schema:
      openAPIV3Schema:
        type: object
        description: A thing.
        properties:
          spec:
            type: object
            description: What is wanted.
            required: [size]
            properties:
              size: {type: integer, minimum: 1, description: How large.}
              note: {type: string, default: none}
            x-kubernetes-validations:
            - {rule: "self.size < 100", message: too large}
""",
    "thing.yaml": """
apiVersion: example.com/v1
kind: Thing
metadata: {name: one}
spec: {size: 3}
""",
    "large.yaml": """
apiVersion: example.com/v1
kind: Thing
metadata: {name: large}
spec: {size: 300}
""",
    "claims.yaml": """
apiVersion: resource.k8s.io/v1
kind: DeviceClass
metadata: {name: memory}
spec: {selectors: [{cel: {expression: 'device.driver == "dra.memory"'}}]}
---
apiVersion: resource.k8s.io/v1
kind: ResourceClaim
metadata: {name: claim}
spec: {devices: {requests: [{name: r, exactly: {deviceClassName: memory}}]}}
---
apiVersion: resource.k8s.io/v1
kind: ResourceSlice
metadata: {name: slice}
spec:
  driver: dra.memory
  nodeName: n1
  pool: {name: n1, generation: 1, resourceSliceCount: 1}
  devices: [{name: d, capacity: {memory: {value: 16Gi}}}]
""",
    "node.yaml": """
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {node-role.kubernetes.io/worker: ""}}
""",
    "event.yaml": """
apiVersion: v1
kind: Event
metadata: {name: p.1, namespace: default}
involvedObject: {apiVersion: v1, kind: Pod, name: p, namespace: default, fieldPath: "spec.containers{c}"}
reason: Pulled
message: Container image is there
type: Normal
source: {component: kubelet, host: n1}
firstTimestamp: "2026-01-01T00:00:00Z"
lastTimestamp: "2026-01-01T00:00:05Z"
count: 3
""",
    "pod.yaml": """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {app: p}}
spec:
  nodeName: n1
  containers: [{name: c, image: busybox, resources: {requests: {memory: 32Mi}, limits: {memory: 64Mi}}}]
""",
}

# one command a line; the namespace is that of the test
STEPS = """
version
cluster-info
api-resources --api-group=apps -o wide
api-resources --api-group=resource.k8s.io -o wide
api-resources --api-group=rbac.authorization.k8s.io
get pods
get nosuch
get configmaps nosuch
apply -f unknown.yaml
apply -f unknown.yaml --validate=warn
apply -f unknown.yaml --validate=ignore
delete configmap unknown
apply -f wrong.yaml
diff -f app.yaml
apply -f app.yaml --dry-run=server
get deployments
apply -f app.yaml
apply -f app.yaml
get deployments,services
get deployments -o wide
get configmap conf -o yaml
get deployment web -o yaml
describe configmap conf
describe deployment web
describe service web
diff -f changed.yaml
apply -f changed.yaml
get deployment web -o jsonpath={.spec.template.spec.containers[*].image}
apply -f changed.yaml
rollout history deployment/web
set image deployment/web c=nginx:3
scale deployment web --replicas=1
scale deployment web --replicas=1 --current-replicas=5
autoscale deployment web --min=1 --max=3 --cpu=80%
get hpa
label configmap conf tier=front
label configmap conf tier=back
label configmap conf tier=back --overwrite
label configmap conf tier-
annotate configmap conf note=hello
get configmaps -l app=x --show-labels
get configmaps -l app!=x,tier
get configmaps --field-selector metadata.name=conf
get configmaps --field-selector spec.no=x
get configmaps -l =a
patch configmap conf --type=merge -p {"data":{"b":null,"c":"3"}}
patch configmap conf --type=json -p [{"op":"test","path":"/data/c","value":"4"}]
patch configmap conf --type=json -p [{"op":"add","path":"/data/d","value":"4"}]
patch deployment web -p {"spec":{"template":{"spec":{"containers":[{"name":"d","$patch":"delete"}]}}}}
get configmap conf -o jsonpath={.data}
apply --server-side -f app.yaml
apply --server-side --field-manager=other -f app.yaml
apply --server-side --field-manager=other --force-conflicts -f app.yaml
get configmap conf -o yaml --show-managed-fields
replace -f app.yaml
create configmap made --from-literal=k=v
create configmap made --from-literal=k=v
create secret generic hidden --from-literal=password=x
create deployment d2 --image=nginx:1 --replicas=0
create serviceaccount app
create job j1 --image=busybox -- sleep 1
create cronjob c1 --image=busybox --schedule=@daily -- sleep 1
create role reader --verb=get,list --resource=pods,pods/log
create rolebinding readers --role=reader --serviceaccount=default:app --user=jane
create quota q1 --hard=cpu=1,pods=2,limits.memory=1Gi
create service clusterip svc --tcp=80:8080
create poddisruptionbudget budget --selector=app=web --min-available=1
create ingress way --rule=foo.com/bar=svc:80
create token app --duration=5m
create token nosuch
get secret,job,cronjob,role,rolebinding,quota,pdb,ingress,serviceaccount
get secret hidden -o jsonpath={.data}
get rolebinding readers -o wide
get job j1 -o wide
describe role reader
describe rolebinding readers
describe quota q1
describe secret hidden
auth can-i create pods
auth can-i get pods --as=jane
auth can-i delete pods --as=jane
auth can-i --list --as=jane
auth whoami
get pods --as=jane
get secrets --as=jane
get nodes --as=jane
create -f node.yaml
get nodes
get nodes -o wide
cordon n1
get nodes
taint nodes n1 key=value:NoSchedule
taint nodes n1 key=value:NoSchedule
uncordon n1
create -f pod.yaml
get pods
get pods -o wide
describe pod p
label pod p app-
get pod p -o yaml
create -f event.yaml
get events
get events -o wide
events
events --for=pod/p
drain n1 --force --ignore-daemonsets --timeout=3s
get nodes
delete pod p --grace-period=0 --force
delete node n1
apply -f claims.yaml
get deviceclasses,resourceclaims
get resourceslices
describe resourceclaim claim
apply -f crd.yaml
wait --for=condition=Established crd/things.example.com --timeout=20s
get crd things.example.com
apply -f thing.yaml
apply -f thing.yaml
apply -f large.yaml
get th
get things -o wide
get stuff
get thing one -o yaml
explain thing.spec
explain thing --recursive
patch thing one --type=merge -p {"spec":{"size":0}}
patch thing one -p {"spec":{"size":4}}
delete -f thing.yaml
delete -f crd.yaml
explain deployment.spec.strategy
explain pod.spec.containers.resources --recursive
explain resourceclaim.spec.devices.requests
logs nosuch
delete -f claims.yaml
delete configmaps -l app=x
wait --for=delete configmap/conf --timeout=10s
delete deployments,services,jobs,cronjobs,roles,rolebindings,quota,pdb,ingress,hpa --all
delete secret nosuch
delete configmap made --dry-run=server
delete configmap made
get configmap,deployment,secret
"""

ESTABLISHED = "wait --for=condition=Established crd/things.example.com --timeout=20s"
READING = ("api-resources", "auth", "describe", "events", "explain", "get")

# Differences that stay, each with its reason; docs/apiserver.md says the same.
MOUNT = "no volume with a token is added to pods"
TEXTS = "descriptions come from the models of lightkube, without enumerations and paragraphs"
KNOWN = {
    "describe pod p": MOUNT,
    "get pod p -o yaml": MOUNT,
    "explain deployment.spec.strategy": TEXTS,
    "explain resourceclaim.spec.devices.requests": TEXTS,
}
OLDER = {
    "1.36": {
        "api-resources --api-group=resource.k8s.io -o wide": "DeviceTaintRule is in v1 since 1.37",
        "get crd things.example.com": "the server has the table of 1.37",
    }
}

MASKS = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)?( [+-]\d{4} \w+)?", "TIME"),
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
    (r'resourceVersion: "\d+"', "resourceVersion: N"),
    (r"Resource Version: +\d+", "Resource Version: N"),
    (r"10\.96\.\d+\.\d+", "ADDRESS"),
    (r"\bv1\.\d+\.\d+(\+[\w-]+)?", "VERSION"),
    (r"https?://127\.0\.0\.1:\d+", "SERVER"),
    (r"eyJ[\w-]+\.[\w-]+\.[\w-]+", "TOKEN"),
    (r"/tmp/[\w-]*(LIVE|MERGED)-\d+/", "FOLDER/"),
    (r"\b(\d+[smhd]){1,2}\b", "AGE"),
    (r"<(invalid|unknown)> ago", "AGE ago"),
    (r"[ \t]+", " "),
]


def masked(text: str) -> str:
    """Return a text without what is of one run."""
    for pattern, name in MASKS:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Kubectl:
    """kubectl of one version against one server."""

    def __init__(self, program: Path, folder: Path, config: dict[str, object]) -> None:
        folder.mkdir()
        for name, content in FILES.items():
            (folder / name).write_text(content)
        self._file = folder / "kubeconfig"
        self._file.write_text(json.dumps(config))
        self._program = str(program)
        self._folder = folder

    def run(self, line: str) -> str:
        """Return exit code and output of a command, masked."""
        arguments = line.split(" ") if "{" in line or "[" in line else shlex.split(line)
        environment = {**os.environ, "KUBECONFIG": str(self._file), "HOME": str(self._folder)}
        done = subprocess.run(
            [self._program, *arguments],
            cwd=self._folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(60),
        )
        return masked(f"{done.stdout}\n{done.stderr}\n[{done.returncode}]")


def served(kubectl: Kubectl) -> bool:
    return all(kubectl.run(line).endswith("[0]") for line in ("get things", "explain thing.spec.size"))


def again(real: Kubectl, embedded: Kubectl, line: str) -> tuple[str, str]:
    """Ask both once more what only reads, until they say the same: a server may see a moment later what it was told."""
    answers = "", ""

    def same() -> bool:
        nonlocal answers
        answers = real.run(line), embedded.run(line)
        return answers[0] == answers[1]

    with contextlib.suppress(NotInTime):
        eventually(same, 3, line, every=0.5)
    return answers


@contextlib.contextmanager
def real_server(version: str, folder: Path) -> Iterator[dict[str, object]]:
    """Run etcd, the API server and the few controllers; gives the administrator's kubeconfig."""
    folder.mkdir()
    only = f"--controllers={','.join(CONTROLLERS)}"
    plane = ControlPlane(version, folder, arguments={"kube-controller-manager": [only]})
    try:
        plane.start()
        eventually(lambda: plane.api.call("GET", "/readyz"), 90, "the API server is ready")
        plane.start_process("kube-controller-manager")
        plane.wait_for_pods()
        yield json.loads(plane.kubeconfig.read_text())
    finally:
        plane.stop()


@contextlib.contextmanager
def embedded_server(folder: Path) -> Iterator[dict[str, object]]:
    """Run our API server as a process; gives the administrator's kubeconfig."""
    folder.mkdir()
    (folder / "logs").mkdir()
    tokens, kubeconfig = folder / "tokens.csv", folder / "kubeconfig"
    tokens.write_text(TOKENS)
    options = [f"--token-auth-file={tokens}", f"--kubeconfig={kubeconfig}", "--port=0", "--rbac", "--tls"]
    command = [sys.executable, "-m", "dynamic_memory", "apiserver", *options]
    child = Child("embedded-apiserver", command, logs=folder / "logs", folder=folder)
    try:
        eventually(kubeconfig.exists, 60, "the embedded API server listens")
        found = yaml.safe_load(kubeconfig.read_text())
        # the token of the same user as on the real server; kubectl sends tokens over TLS alone
        found["users"][0]["user"] = {"token": "admin"}
        yield found
    finally:
        child.stop()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "version" in metafunc.fixturenames:
        metafunc.parametrize("version", metafunc.config.getoption("--kubernetes") or VERSIONS)


@pytest.mark.timeout(1800, method="signal")
def test_kubectl_shows_the_same_of_both_servers(version: str, tmp_path: Path):
    program = find(f"kubernetes-{version}") / "kubectl"
    known = KNOWN | OLDER.get(version, {})
    different: list[str] = []
    same_after_all: list[str] = []
    with real_server(version, tmp_path / "real") as theirs, embedded_server(tmp_path / "embedded") as ours:
        real = Kubectl(program, tmp_path / "there", theirs)
        embedded = Kubectl(program, tmp_path / "here", ours)
        for line in STEPS.strip().splitlines():
            expected, found = real.run(line), embedded.run(line)
            if line == ESTABLISHED:  # the real server says so a moment before it serves them and their description
                for kubectl in (real, embedded):
                    eventually(lambda kubectl=kubectl: served(kubectl), 20, "the new kind is served")
            if expected != found and line not in known and line.split()[0] in READING:
                expected, found = again(real, embedded, line)
            if expected == found:
                same_after_all += [line] if line in known else []
            elif line not in known:
                lines = difflib.unified_diff(
                    expected.splitlines(), found.splitlines(), "real", "ours", lineterm="", n=1
                )
                different.append("\n".join([f"$ kubectl {line}", *lines, ""]))
    (tmp_path / "differences.txt").write_text("\n".join(different))
    assert not different, "\n".join(different)
    assert not same_after_all, "no longer different: say so here and in docs/apiserver.md"


OF_KUBELETS = """
get pods
get pods -A
get pods -A --field-selector=spec.nodeName=n1
get pod p
get nodes
get node n1
get node n2
get resourceslices
get resourceslices --field-selector=spec.nodeName=n1
delete resourceslices --all
get secrets
get secret hidden
get secrets -A
get persistentvolumes
get serviceaccount default
get serviceaccounts
get services
get csinodes
get leases -A
get deployments
create token default
create configmap c
label node n1 node-role.kubernetes.io/x=y
label node n1 example.com/x=y
taint nodes n1 key=value:NoSchedule
create -f pod.yaml
auth can-i list pods -A
auth can-i get nodes/n1
"""


def test_A46_kubelets_hear_the_same_of_both_servers(version: str, tmp_path: Path):
    program = find(f"kubernetes-{version}") / "kubectl"
    different: list[str] = []
    with real_server(version, tmp_path / "real") as theirs, embedded_server(tmp_path / "embedded") as ours:
        real, embedded = Kubectl(program, tmp_path / "there", theirs), Kubectl(program, tmp_path / "here", ours)
        for kubectl in (real, embedded):
            kubectl.run("create -f node.yaml")
            kubectl.run("create secret generic hidden --from-literal=password=x")
        for line in OF_KUBELETS.strip().splitlines():
            as_kubelet = f"{line} --as=system:node:n1 --as-group=system:nodes"
            expected, found = real.run(as_kubelet), embedded.run(as_kubelet)
            if version == "1.36":  # it does not say who gives the reason
                found = found.replace(": node: ", ": ").replace("no - node: ", "no - ")
            if expected != found:
                different.append(f"$ kubectl {line}\n{expected}\n{found}\n")
    assert not different, "\n".join(different)


PROTOTYPE = sorted((ROOT / "examples" / "prototype").glob("*.yaml"))
NUMBER = "configmap/vlan-driver-vlan-2000"
"""Its data has a number, which the server stores as a text: kubectl sees a difference each time."""


def outcomes(text: str) -> dict[str, str]:
    """Return what became of each object that kubectl names: `created`, `unchanged`, `configured`."""
    lines = (line.split() for line in text.splitlines() if not line.startswith("["))
    return {words[0]: words[1] for words in lines if len(words) == 2}


def test_A02_to_A07_kubectl_and_the_kinds_of_the_prototype(version: str, tmp_path: Path):
    program = find(f"kubernetes-{version}") / "kubectl"
    with embedded_server(tmp_path / "embedded") as ours:
        kubectl = Kubectl(program, tmp_path / "here", ours)
        drivers = kubectl.run(f"apply -f {ROOT}/examples/prototype/drivers.yaml")
        assert drivers.splitlines()[:4] == [
            f"devicedriver.devmgmtproto.k8s.io/{name} created"
            for name in ("example.com-foozer", "example.com-barzer", "sriov-nic", "vlan")
        ]
        shown = kubectl.run("get devicedrivers").splitlines()
        names = ["example.com-barzer", "example.com-foozer", "sriov-nic", "vlan"]
        assert shown[:5] == ["NAME AGE", *(f"{name} AGE" for name in names)]
        for other in ("devicedriver", "ddrv", "devicedrivers.v1alpha1.devmgmtproto.k8s.io"):
            assert kubectl.run(f"get {other}").splitlines() == shown
        assert "devicedriver.devmgmtproto.k8s.io/vlan AGE" in kubectl.run("get srm")
        listed = kubectl.run("api-resources --api-group=devmgmtproto.k8s.io -o wide")
        verbs = "create,delete,deletecollection,get,list,patch,update,watch"
        assert f"devicedrivers ddrv devmgmtproto.k8s.io/v1alpha1 false DeviceDriver {verbs} srm" in listed
        assert "class <string>" in kubectl.run("explain deviceclaim.spec.devices --recursive")
        kubectl.run(f"delete -f {ROOT}/examples/prototype/drivers.yaml")
        for file in PROTOTYPE:
            changed = tmp_path / "changed.yaml"
            objects = [obj for obj in yaml.safe_load_all(file.read_text()) if obj]
            for obj in objects:
                obj["metadata"].setdefault("labels", {})["changed"] = "yes"
            changed.write_text(yaml.safe_dump_all(objects))
            created = outcomes(kubectl.run(f"apply -f {file}"))
            assert len(created) == len({(o["kind"], o["metadata"]["name"]) for o in objects}), (file.name, created)
            assert set(created.values()) == {"created"}, (file.name, created)
            again = outcomes(kubectl.run(f"apply -f {file}"))
            assert {name: what for name, what in again.items() if what != "unchanged"} in ({}, {NUMBER: "configured"})
            third = outcomes(kubectl.run(f"apply -f {changed}"))
            assert set(third.values()) == {"configured"}, (file.name, third)
            assert "[0]" in kubectl.run(f"delete -f {file} --wait=false")
