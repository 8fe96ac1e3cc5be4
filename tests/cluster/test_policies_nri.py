# SPDX-License-Identifier: Apache-2.0
"""The policies of examples/policies, asked by an API server: pods with our claims require the plugin of the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.cluster.support.kubectl import kubectl
from tests.cluster.support.processes import eventually
from tests.cluster.test_policies import claim, pod, request, spec, template

FILE = Path(__file__).parents[2] / "examples/policies/require-plugin.yaml"
KEY = "required-plugins.noderesource.dev"
CLASSES = {"near": "dra.memory", "huge": "dra.hugepages-2m", "gpu": "gpu.example.com"}


@pytest.fixture(scope="module")
def place(cluster) -> Any:
    name = "require-plugin"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    eventually(lambda: cluster.api.find("ServiceAccount", "default", name), 20, f"service account of {name}")
    for kind, class_ in CLASSES.items():
        body = spec(request("one", class_, None))
        cluster.api.create(claim(body, kind), name)
        cluster.api.create(template(body, kind), name)
    cluster.api.create(claim({}, "empty"), name)
    code, said = kubectl(cluster, "apply", "-f", str(FILE))
    assert code == 0, said
    for kind in ("near", "huge"):  # the API server hears of policies and of each of their parameters by watches
        for source in ("resourceClaimName", "resourceClaimTemplateName"):
            body = pod({source: kind})
            eventually(lambda body=body: annotation(cluster, name, body), 30, f"the policies know the {source} {kind}")
    yield name
    kubectl(cluster, "delete", "-f", str(FILE))
    cluster.api.delete("Namespace", name)


def annotation(cluster: Any, namespace: str, body: dict[str, Any]) -> str:
    made = cluster.api.create(body, namespace, dryRun="All")
    return str(made["metadata"].get("annotations", {}).get(KEY, ""))


@pytest.mark.parametrize(
    ("sources", "required"),
    [
        ([{"resourceClaimName": "near"}], True),
        ([{"resourceClaimTemplateName": "near"}], True),
        ([{"resourceClaimTemplateName": "huge"}], True),
        ([{"resourceClaimName": "gpu"}, {"resourceClaimName": "huge"}], True),
        ([{"resourceClaimName": "near"}, {"resourceClaimTemplateName": "near"}], True),
        ([{"resourceClaimName": "gpu"}], False),
        ([{"resourceClaimName": "empty"}], False),
        ([{"resourceClaimName": "not-there"}], False),
        ([], False),
    ],
    ids=["claim", "template", "huge-pages", "among-others", "two", "foreign", "empty", "absent", "none"],
)
def test_N20_pods_with_our_claims_require_the_plugin(cluster, place, sources, required):
    assert annotation(cluster, place, pod(*sources)) == ('["dra.memory"]' if required else "")


def test_N20_other_annotations_stay_and_what_a_pod_says_itself_counts(cluster, place):
    body = pod({"resourceClaimName": "near"})
    body["metadata"]["annotations"] = {"example.com/mine": "stays"}
    made = cluster.api.create(body, place, dryRun="All")
    assert made["metadata"]["annotations"] == {"example.com/mine": "stays", KEY: '["dra.memory"]'}
    body["metadata"]["annotations"] = {KEY: "[]"}
    assert annotation(cluster, place, body) == "[]"
