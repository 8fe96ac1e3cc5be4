# SPDX-License-Identifier: Apache-2.0
"""A46: who writes which part of the status of a claim."""

from __future__ import annotations

import pytest
from tests.embedded.support.asking import Refused
from tests.embedded.support.secured import world

NODE = "n1"
CLAIM = {
    "apiVersion": "resource.k8s.io/v1",
    "kind": "ResourceClaim",
    "metadata": {"name": "c"},
    "spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "memory"}}]}},
}
RESULT = {"request": "r", "driver": "dra.memory", "pool": "p", "device": "d"}
SELECTOR = {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [NODE]}]}]}
ALLOCATED = {"allocation": {"devices": {"results": [RESULT]}, "nodeSelector": SELECTOR}}
ENTRY = {"driver": "dra.memory", "pool": "p", "device": "d", "conditions": []}
DRIVER = "system:serviceaccount:dynamic-memory:driver"
STATUS = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims/c/status"


async def claim_of_a_node(made):
    await made.admin.load("deploy/00-namespace.yaml", "deploy/10-rbac.yaml")
    await made.admin.create(CLAIM, "default")
    await made.admin.patch(CLAIM, {"status": ALLOCATED}, "default", sub="status")


async def test_the_driver_of_deploy_writes_device_states_of_claims_on_its_node_alone():
    async with world(rbac=True) as made:
        await claim_of_a_node(made)
        patch = {"status": {"devices": [ENTRY]}}
        for elsewhere in (made.admin.as_(DRIVER, node="n2"), made.admin.as_(DRIVER)):
            with pytest.raises(Refused) as caught:
                await elsewhere.patch(CLAIM, patch, "default", sub="status")
            assert caught.value.code == 422
            assert caught.value.message == (
                'ResourceClaim.resource.k8s.io "c" is invalid: status.devices: Forbidden: changing status.devices '
                'requires resource="resourceclaims/driver", verb="[arbitrary-node:patch]" permission: '
                f'resourceclaims.resource.k8s.io "dra.memory" is forbidden: User "{DRIVER}" cannot '
                'arbitrary-node:patch resource "resourceclaims/driver" in API group "resource.k8s.io" in the namespace '
                '"default"'
            )
        own = made.admin.as_(DRIVER, node=NODE)
        done = await own.patch(CLAIM, patch, "default", sub="status")
        assert done["status"]["devices"][0]["device"] == "d"
        # a write that changes nothing needs no right at all
        await made.admin.as_(DRIVER, node="n2").patch(CLAIM, patch, "default", sub="status")


async def test_nobody_but_the_scheduler_allocates():
    async with world(rbac=True) as made:
        await claim_of_a_node(made)
        patch = {"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "u"}]}}
        with pytest.raises(Refused) as caught:
            await made.admin.as_(DRIVER, node=NODE).patch(CLAIM, patch, "default", sub="status")
        assert caught.value.code == 422
        assert (
            "status.allocation: Forbidden: changing status.allocation or status.reservedFor requires"
            in caught.value.message
        )
        await made.admin.as_("system:kube-scheduler").patch(CLAIM, patch, "default", sub="status")
