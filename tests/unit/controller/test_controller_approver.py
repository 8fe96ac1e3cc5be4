# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dynamic_memory.api.certificates import CertificateSigningRequestSpec
from dynamic_memory.controller.approver import NODE_NAME_EXTRA, Denial, Grant, Requested, decide
from dynamic_memory.controller.config import AccountsConfig, AuthorityConfig, ControllerConfig, FabricConfig
from dynamic_memory.fabric.identity import CONTROLLER, OPERATOR, SERVICE, Identity

CONFIG = ControllerConfig(
    owner="c1",
    namespace="dm",
    fabric=FabricConfig(address="x:1"),
    authority=AuthorityConfig(accounts=AccountsConfig(operator=("admins/anna",))),
)
RULES = CONFIG.rules()
NODE, CONTROL = Identity.node("c1", "n1"), Identity.role("c1", CONTROLLER)


def account(name, namespace="dm"):
    return f"system:serviceaccount:{namespace}:{name}"


def spec(username, *, node=None, usages=("digital signature", "client auth")):
    extra = {} if node is None else {NODE_NAME_EXTRA: [node] if isinstance(node, str) else node}
    return CertificateSigningRequestSpec(username=username, extra=extra, usages=list(usages))


def requested(*uris, **changes):
    return Requested(
        **({"signature_valid": True, "key": "ec", "curve": "secp256r1", "uris": [str(u) for u in uris]} | changes)
    )


@pytest.mark.parametrize(
    ("who", "username", "node", "usages", "dns"),
    [
        (NODE, account("driver"), "n1", ("client auth",), ()),
        (NODE, account("driver"), "n1", ("client auth", "key encipherment"), ()),
        (CONTROL, account("controller"), "n9", ("client auth",), ()),
        (Identity.role("c1", OPERATOR), account("anna", "admins"), None, ("client auth",), ()),
        (
            Identity.role("c1", SERVICE),
            account("service"),
            None,
            ("client auth", "server auth"),
            ("service.dm.svc", "service.dm"),
        ),
    ],
)
def test_rule_4_who_asks_for_what_it_is_gets_it(who, username, node, usages, dns):
    verdict = decide(spec(username, node=node, usages=usages), requested(who, dns=list(dns)), RULES)
    assert verdict == Grant(identity=str(who), dns=dns, server="server auth" in usages)


@pytest.mark.parametrize(
    ("case", "who", "the_spec", "reason"),
    [
        ("another node", Identity.node("c1", "n2"), spec(account("driver"), node="n1"), "WrongNode"),
        ("a token without a node", NODE, spec(account("driver")), "WrongNode"),
        ("a token with two nodes", NODE, spec(account("driver"), node=["n1", "n2"]), "WrongNode"),
        ("a node from another account", NODE, spec(account("default"), node="n1"), "WrongRequester"),
        ("a node from another namespace", NODE, spec(account("driver", "evil"), node="n1"), "WrongRequester"),
        ("a node from the controller", NODE, spec(account("controller"), node="n1"), "WrongRequester"),
        ("a role from a node", CONTROL, spec(account("driver"), node="n1"), "WrongRequester"),
        (
            "an operator who is none",
            Identity.role("c1", OPERATOR),
            spec(account("controller")),
            "WrongRequester",
        ),
        ("nobody", NODE, spec("", node="n1"), "WrongRequester"),
        ("another cluster", Identity.node("c2", "n1"), spec(account("driver"), node="n1"), "WrongOwner"),
        ("no identity", "https://x/y", spec(account("driver"), node="n1"), "BadIdentity"),
        ("a server", NODE, spec(account("driver"), node="n1", usages=("client auth", "server auth")), "BadUsages"),
        ("no client", NODE, spec(account("driver"), node="n1", usages=("digital signature",)), "BadUsages"),
        ("a signer", NODE, spec(account("driver"), node="n1", usages=("client auth", "cert sign")), "BadUsages"),
        ("a service that cannot serve", Identity.role("c1", SERVICE), spec(account("service")), "BadUsages"),
    ],
)
def test_rule_4_I6_everybody_else_is_denied_with_a_sentence(case, who, the_spec, reason):
    verdict = decide(the_spec, requested(who), RULES)
    assert isinstance(verdict, Denial), case
    assert verdict.reason == reason
    assert verdict.why.endswith(".")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"signature_valid": False}, "BadRequest"),
        ({"ca": True}, "BadRequest"),
        ({"key": "rsa", "bits": 1024}, "BadKey"),
        ({"key": "rsa", "bits": 65536}, "BadKey"),
        ({"key": "ec", "curve": "secp192r1"}, "BadKey"),
        ({"key": "Ed25519PublicKey", "curve": ""}, "BadKey"),
        ({"uris": []}, "BadIdentity"),
        ({"uris": [str(NODE), "dynamic-memory://c1/node/n2"]}, "BadIdentity"),
        ({"others": ["IPAddress"]}, "BadIdentity"),
        ({"dns": ["service.dm.svc"]}, "BadIdentity"),
    ],
)
def test_rule_4_a_request_that_asks_for_more_is_denied(changes, reason):
    verdict = decide(spec(account("driver"), node="n1"), requested(NODE, **changes), RULES)
    assert isinstance(verdict, Denial)
    assert verdict.reason == reason


def test_rule_4_the_service_gets_only_its_own_names():
    usages = ("client auth", "server auth")
    who = Identity.role("c1", SERVICE)
    verdict = decide(spec(account("service"), usages=usages), requested(who, dns=["kubernetes.default.svc"]), RULES)
    assert isinstance(verdict, Denial)
    assert "kubernetes.default.svc" in verdict.why


def test_an_rsa_key_of_2048_bits_will_do():
    verdict = decide(spec(account("driver"), node="n1"), requested(NODE, key="rsa", curve="", bits=2048), RULES)
    assert isinstance(verdict, Grant)
