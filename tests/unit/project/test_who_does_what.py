# SPDX-License-Identifier: Apache-2.0
"""The division of work between the roles, read from the code and from the rights that the manifests give."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "src" / "dynamic_memory"
ROLES = ("driver", "controller", "capacity", "fabric", "kube")
RIGHTS = [body for body in yaml.safe_load_all((ROOT / "deploy" / "10-rbac.yaml").read_text()) if body]


def calls(room: str) -> Iterator[ast.Call]:
    """Every call in a room."""
    for path in sorted((PACKAGE / room).rglob("*.py")):
        yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def method(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def methods(room: str) -> set[str]:
    return {method(call) for call in calls(room)}


def writes(role: str) -> dict[str, set[str]]:
    """Verbs that change something, by resource, that a role has in any namespace."""
    found: dict[str, set[str]] = {}
    for body in RIGHTS:
        if body["kind"] in {"ClusterRole", "Role"} and body["metadata"]["name"] in {f"dynamic-memory-{role}", role}:
            for rule in body["rules"]:
                for resource in rule["resources"]:
                    found.setdefault(resource, set()).update(set(rule["verbs"]) - {"get", "list", "watch"})
    return {resource: verbs for resource, verbs in found.items() if verbs}


@pytest.mark.parametrize("change", ["create_region", "online", "offline", "destroy_region"])
def test_rule_1_only_the_driver_changes_memory_blocks(change: str) -> None:
    assert {room for room in ROLES if change in methods(room)} == {"driver"}


def test_rule_1_only_the_updater_changes_the_ceiling_of_a_cgroup() -> None:
    users = {path.relative_to(PACKAGE).parts[0] for path in PACKAGE.rglob("*.py") if "find_ceiling" in path.read_text()}

    assert users == {"host", "capacity"}


def test_rule_1_only_the_driver_attaches() -> None:
    # the service's server hands on what it was asked for, and the command line is an operator's
    assert {room for room in ROLES if "add_memory" in methods(room)} == {"driver", "fabric"}
    roles = ("driver", "controller", "updater", "service")
    assert [role for role in roles if "resourceclaims/driver" in writes(role)] == ["driver"]


def test_rule_3_the_controller_never_attaches_never_forces_and_changes_no_host() -> None:
    used = methods("controller")
    assert not used & {"add_memory", "create_region", "online", "offline", "destroy_region"}
    removals = [call for call in calls("controller") if method(call) == "remove_memory"]
    assert len(removals) == 1
    assert {keyword.arg for keyword in removals[0].keywords} == {"host_off"}


def test_rule_3_the_controller_may_write_what_it_is_for_and_nothing_of_claims_or_pods() -> None:
    assert writes("controller").keys() == {
        "resourceslices",
        "nodes",
        "events",
        "certificatesigningrequests",
        "certificatesigningrequests/approval",
        "certificatesigningrequests/status",
        "signers",
        "leases",
        "secrets",
        "configmaps",
    }
    assert writes("controller")["nodes"] == {"patch"}


def test_rule_2_the_service_knows_no_kubernetes() -> None:
    imported = {
        name
        for path in (PACKAGE / "fabric").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    ours = {name for name in imported if name.startswith(("lightkube", "dynamic_memory.kube", "dynamic_memory.api"))}
    # names of pools, which it is configured with
    assert ours <= {"dynamic_memory.api.names"}
    # of the container beside it, which fetches its certificate
    assert writes("service") == {"certificatesigningrequests": {"create"}}
