# SPDX-License-Identifier: Apache-2.0
"""Admission policies, asked as the real kube-apiserver was asked: the same answers, word for word.

The answers in recorded/policies.json are those of Kubernetes 1.37.0; tests/cluster asks again.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.embedded.support.servers import running
from tests.support.patch_script import MEDIA, masked
from tests.support.policy_script import SCRIPTS

RECORDED = json.loads((Path(__file__).parent / "recorded" / "policies.json").read_text())


@pytest.mark.parametrize("name", SCRIPTS)
async def test_a_policy_answers_as_on_the_real_server(name):
    namespace = f"p{list(SCRIPTS).index(name)}"
    async with running() as server:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        await server.client.send("POST", "/api/v1/namespaces", body)
        for step in SCRIPTS[name].policies:
            sent = step.placed(namespace)
            answer = await server.client.send(sent.method, sent.path, sent.body)
            assert answer.code == 201, answer
        for place, (step, expected) in enumerate(zip(SCRIPTS[name].requests, RECORDED[name], strict=True)):
            sent = step.placed(namespace)
            answer = await server.client.send(sent.method, sent.path, sent.body, media=MEDIA[sent.media], **sent.query)
            assert [answer.code, masked(answer.json)] == expected, f"step {place}: {sent}"
