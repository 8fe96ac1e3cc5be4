# SPDX-License-Identifier: Apache-2.0
"""The scripts of patches that the embedded API server is measured by, against real ones: the answers are the recorded.

The namespaces have the names that are in the recording.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.cluster.support.processes import eventually
from tests.support.patch_script import CRD, MEDIA, SCRIPTS, Step, masked

RECORDED = json.loads((Path(__file__).parents[1] / "embedded" / "apiserver" / "recorded" / "patches.json").read_text())


def send(api, step: Step):
    """Send a step as it is; return status and answer."""
    headers = {"Accept": "application/json", "Content-Type": MEDIA[step.media], "Authorization": "Bearer admin"}
    target = f"{step.path}?{urlencode(step.query)}" if step.query else step.path
    body = None if step.body is None else json.dumps(step.body).encode()
    status, text = api._exchange(step.method, target, body, headers)
    return [status, masked(json.loads(text))]


@pytest.fixture(scope="module")
def kinds(cluster):
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    cluster.api.call("POST", path, CRD)
    things = "/apis/patches.example.com/v1/things"
    eventually(lambda: send(cluster.api, Step("GET", things))[0] == 200, 20, "the kind of the CRD is served")
    yield
    cluster.api.call("DELETE", f"{path}/{CRD['metadata']['name']}")


@pytest.mark.parametrize("name", SCRIPTS)
def test_A20_A21_A22_A41_a_script_is_answered_as_recorded(cluster, kinds, name):
    namespace = f"s{list(SCRIPTS).index(name)}"
    cluster.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    try:
        for place, (step, expected) in enumerate(zip(SCRIPTS[name], RECORDED[name], strict=True)):
            sent = step.placed(namespace)
            assert send(cluster.api, sent) == expected, f"step {place}: {sent}"
    finally:
        cluster.api.delete("Namespace", namespace)
