# SPDX-License-Identifier: Apache-2.0
"""The scripts that the embedded API server is measured by, patches and policies, against real ones: nothing differs.

Only etcd and the API server run: controllers would write, too. The namespaces have the names that are in the recording.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from tests.cluster.support.api import Api, ApiError
from tests.cluster.support.control_plane import VERSIONS, ControlPlane
from tests.cluster.support.processes import eventually
from tests.support import policy_script
from tests.support.patch_script import CRD, MEDIA, SCRIPTS, Step, masked

FOLDER = Path(__file__).parents[1] / "embedded" / "apiserver" / "recorded"
RECORDED = json.loads((FOLDER / "patches.json").read_text())
POLICIES = json.loads((FOLDER / "policies.json").read_text())


def answers(api: Api, path: str) -> bool:
    try:
        return bool(api.call("GET", path))
    except (ApiError, OSError):
        return False


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    versions = metafunc.config.getoption("--kubernetes") or VERSIONS
    metafunc.parametrize("api", versions, indirect=True, scope="module")


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    plane = ControlPlane(request.param, tmp_path_factory.mktemp("plane"))
    try:
        plane.start()
        eventually(lambda: answers(plane.api, "/readyz"), 120, "the API server is ready")
        plane.api.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", CRD)
        eventually(lambda: answers(plane.api, "/apis/patches.example.com/v1/things"), 20, "the CRD is served")
        yield plane.api
    finally:
        plane.stop()


def send(api: Api, step: Step) -> list[object]:
    """Send a step as it is; return status and answer."""
    headers = {"Accept": "application/json", "Content-Type": MEDIA[step.media], "Authorization": "Bearer admin"}
    target = f"{step.path}?{urlencode(step.query)}" if step.query else step.path
    body = None if step.body is None else json.dumps(step.body).encode()
    status, text = api._exchange(step.method, target, body, headers)
    return [status, masked(json.loads(text))]


@pytest.mark.parametrize("name", SCRIPTS)
def test_A20_A21_A22_A41_a_script_is_answered_as_recorded(api, name):
    namespace = f"s{list(SCRIPTS).index(name)}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for place, (step, expected) in enumerate(zip(SCRIPTS[name], RECORDED[name], strict=True)):
        sent = step.placed(namespace)
        assert send(api, sent) == expected, f"step {place}: {sent}"


@pytest.mark.parametrize("name", policy_script.SCRIPTS)
def test_a_policy_answers_as_recorded(api, name):
    script = policy_script.SCRIPTS[name]
    namespace = f"p{list(policy_script.SCRIPTS).index(name)}"
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    for step in script.policies:
        assert send(api, step.placed(namespace))[0] == 201
    for place, (step, expected) in enumerate(zip(script.requests, POLICIES[name], strict=True)):
        sent = step.placed(namespace)
        # the server has to hear of its own policies first
        eventually(lambda sent=sent, expected=expected: send(api, sent) == expected, 10, f"the answer to step {place}")
