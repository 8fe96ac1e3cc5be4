# SPDX-License-Identifier: Apache-2.0
"""The manifests of deploy/ fit the package: versions, configuration files, accounts, rights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from dynamic_memory import __version__
from dynamic_memory.api import names
from dynamic_memory.api.resource import DeviceAllocationConfiguration
from dynamic_memory.capacity.config import CapacityConfig
from dynamic_memory.controller.config import ControllerConfig
from dynamic_memory.driver import claim_config
from dynamic_memory.driver.config import DriverConfig
from dynamic_memory.driver.grants import Mode
from dynamic_memory.driver.local_classes import device_class
from dynamic_memory.fabric.config import ServiceConfig
from dynamic_memory.process import config

DEPLOY = Path(__file__).parents[3] / "deploy"
OBJECTS: list[dict[str, Any]] = [
    body for path in sorted(DEPLOY.glob("*.yaml")) for body in yaml.safe_load_all(path.read_text()) if body
]
WORKLOADS = [body for body in OBJECTS if body["kind"] in {"Deployment", "DaemonSet"}]
CONFIGS = {
    "service": ServiceConfig,
    "controller": ControllerConfig,
    "driver": DriverConfig,
    "updater": CapacityConfig,
}


def of(kind: str) -> list[dict[str, Any]]:
    return [body for body in OBJECTS if body["kind"] == kind]


def containers(workload: dict[str, Any]) -> list[dict[str, Any]]:
    spec = workload["spec"]["template"]["spec"]
    return [*spec.get("initContainers", []), *spec["containers"]]


@pytest.mark.parametrize("role", CONFIGS)
def test_the_configuration_of_each_role_is_accepted(role: str) -> None:
    (found,) = [body for body in of("ConfigMap") if body["metadata"]["name"] == role]
    assert config.loads(found["data"][f"{role}.yaml"].encode(), CONFIGS[role])


def test_containers_are_held_to_their_claims_as_shipped() -> None:
    """What the driver needs for it is in its pod, at the paths that its configuration names."""
    (found,) = [body for body in of("ConfigMap") if body["metadata"]["name"] == "driver"]
    shipped = config.loads(found["data"]["driver.yaml"].encode(), DriverConfig)
    (driver,) = [body for body in WORKLOADS if body["metadata"]["name"] == "driver"]
    spec = driver["spec"]["template"]["spec"]
    folders = {volume["name"]: volume["hostPath"]["path"] for volume in spec["volumes"] if "hostPath" in volume}
    (container,) = spec["containers"]
    mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}

    assert shipped.nri is not None
    assert shipped.local is not None
    assert shipped.local.preflight == "enforce"
    settings = str(Path(shipped.local.containerd_config).parent)
    needed = [str(shipped.nri.socket.parent), shipped.nri.cgroup_root, settings]
    assert all(folders[mounts[path]["name"]] == path for path in needed)
    assert not any(mounts[path].get("readOnly") for path in needed[:2])


def test_one_owner_has_one_name_everywhere() -> None:
    maps = {body["metadata"]["name"]: body["data"] for body in of("ConfigMap")}
    owners = {
        config.loads(maps["controller"]["controller.yaml"].encode(), ControllerConfig).owner,
        config.loads(maps["driver"]["driver.yaml"].encode(), DriverConfig).owner,
    }
    served = {owner.name for owner in config.loads(maps["service"]["service.yaml"].encode(), ServiceConfig).owners}

    assert owners == served == {"cluster"}


def test_every_container_runs_this_version() -> None:
    images = {container["image"] for workload in WORKLOADS for container in containers(workload)}

    assert images == {f"localhost/dynamic-memory:{__version__}"}


def test_no_container_has_more_power_than_it_needs() -> None:
    for workload in WORKLOADS:
        for container in containers(workload):
            security = container["securityContext"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert security["allowPrivilegeEscalation"] is False
            assert security["readOnlyRootFilesystem"] is True
            assert "privileged" not in security
            assert container["resources"]["limits"]["memory"]


def test_every_role_has_an_account_and_the_service_no_token() -> None:
    accounts = {body["metadata"]["name"] for body in of("ServiceAccount")}
    used = {workload["spec"]["template"]["spec"]["serviceAccountName"] for workload in WORKLOADS}
    (service,) = [body for body in WORKLOADS if body["metadata"]["name"] == "service"]
    (container,) = service["spec"]["template"]["spec"]["containers"]

    assert accounts == used == set(CONFIGS)
    assert service["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert "token" not in {mount["name"] for mount in container["volumeMounts"]}


def test_no_right_is_a_wildcard() -> None:
    for role in of("ClusterRole") + of("Role"):
        for rule in role["rules"]:
            assert "*" not in {*rule["verbs"], *rule["resources"], *rule["apiGroups"]}, role["metadata"]["name"]


def test_only_the_controller_reads_secrets_and_only_its_own() -> None:
    for role in of("ClusterRole") + of("Role"):
        for rule in role["rules"]:
            if "secrets" in rule["resources"] and rule["verbs"] != ["create"]:
                assert role["metadata"]["name"] == "controller"
                assert rule["resourceNames"] == ["dynamic-memory-ca"]


def test_rule_1_only_the_driver_may_write_conditions_and_only_for_its_node() -> None:
    found = {
        role["metadata"]["name"]: rule
        for role in of("ClusterRole")
        for rule in role["rules"]
        if "resourceclaims/driver" in rule["resources"]
    }

    assert found == {
        "dynamic-memory-driver": {
            "apiGroups": ["resource.k8s.io"],
            "resources": ["resourceclaims/driver"],
            "verbs": ["associated-node:patch"],
            "resourceNames": [names.DRIVER],
        }
    }


def test_every_policy_has_a_binding_and_fails_closed() -> None:
    for kind in ("ValidatingAdmissionPolicy", "MutatingAdmissionPolicy"):
        policies = {body["metadata"]["name"]: body for body in of(kind)}
        bound = {body["spec"]["policyName"] for body in of(f"{kind}Binding")}
        assert policies.keys() == bound
        assert {policy["spec"]["failurePolicy"] for policy in policies.values()} == {"Fail"}


def test_classes_are_those_that_the_code_names() -> None:
    local = {names.CLASS_MEMORY, names.class_of_page("2Mi"), names.class_of_page("1Gi")}
    fabric = {names.CLASS_FABRIC, names.CLASS_WINDOW}
    assert {body["metadata"]["name"] for body in of("DeviceClass")} == fabric | local


@pytest.mark.parametrize(("page", "huge"), [("4Ki", False), ("2Mi", True), ("1Gi", True)])
def test_D16_classes_of_the_nodes_own_memory_are_those_that_the_command_prints(page: str, huge: bool) -> None:
    printed = device_class(page, huge=huge)
    (found,) = [body for body in of("DeviceClass") if body["metadata"]["name"] == printed["metadata"]["name"]]

    def terms(body: dict[str, Any]) -> list[str]:
        (selector,) = body["spec"]["selectors"]
        return [term.strip() for term in selector["cel"]["expression"].split("&&")]

    assert terms(found) == terms(printed)


def test_the_schema_of_claim_configuration_is_the_one_that_the_driver_reads() -> None:
    committed = json.loads((DEPLOY / "schemas/memory-config.json").read_text())

    assert committed == claim_config.schema(), "write it anew: see docs/node-memory.md"


EXAMPLES = DEPLOY.parent / "examples"
TEMPLATES = {
    body["metadata"]["name"]: body
    for path in sorted((EXAMPLES / "resource-claims").glob("*.yaml"))
    for body in yaml.safe_load_all(path.read_text())
    if body["kind"] == "ResourceClaimTemplate"
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_example_asks_for_a_class_that_there_is_in_a_way_that_is_understood(name: str) -> None:
    devices = TEMPLATES[name]["spec"]["spec"]["devices"]
    classes = {body["metadata"]["name"] for body in of("DeviceClass")}
    assert {request["exactly"]["deviceClassName"] for request in devices["requests"]} <= classes
    configs = msgspec.convert(devices.get("config", []), list[DeviceAllocationConfiguration])
    for request in devices["requests"]:
        assert claim_config.resolve(configs, request["name"], Mode.LIMIT).mode is Mode.LIMIT


def test_a_pod_of_the_examples_names_a_claim_of_the_examples() -> None:
    for path in sorted((EXAMPLES / "pods").glob("*.yaml")):
        for pod in yaml.safe_load_all(path.read_text()):
            if pod["kind"] == "Pod":
                used = {entry["resourceClaimTemplateName"] for entry in pod["spec"]["resourceClaims"]}
                assert used <= TEMPLATES.keys(), path.name
