# SPDX-License-Identifier: Apache-2.0
"""Scripts of writes, answered as the real kube-apiserver answered them (A20, A21, A22, A41).

The answers in recorded/patches.json are those of Kubernetes 1.36.3 and 1.37.0, which are the same; tests/cluster runs
the scripts against both again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.embedded.support.servers import running
from tests.support.patch_script import CRD, MEDIA, SCRIPTS, masked

RECORDED = json.loads((Path(__file__).parent / "recorded" / "patches.json").read_text())
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.mark.parametrize("name", SCRIPTS)
async def test_A20_A21_A22_A41_a_script_is_answered_as_by_the_real_server(name):
    number = list(SCRIPTS).index(name)
    namespace = f"s{number}"
    async with running() as server:
        await server.client.send("POST", CRDS, CRD)
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await server.client.send("POST", "/api/v1/namespaces", body)
        for place, (step, expected) in enumerate(zip(SCRIPTS[name], RECORDED[name], strict=True)):
            sent = step.placed(namespace)
            answer = await server.client.send(sent.method, sent.path, sent.body, media=MEDIA[sent.media], **sent.query)
            assert [answer.code, masked(answer.json)] == expected, f"step {place}: {sent}"
