# SPDX-License-Identifier: Apache-2.0
"""A46: who asks (certificates, tokens, nobody), over TLS."""

from __future__ import annotations

import base64
import datetime as dt
import json
import ssl
import stat

import aiohttp
import pytest
import yaml
from tests.embedded.support.asking import Refused
from tests.embedded.support.client import Client
from tests.embedded.support.secured import world

from dynamic_memory.embedded.apiserver.authentication import certificate_user, read_tokens
from dynamic_memory.embedded.apiserver.kubeconfig import kubeconfig, write_kubeconfig
from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.tls import Authority
from dynamic_memory.embedded.apiserver.tokens import ISSUER
from dynamic_memory.errors import InvalidInput

WHO = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
PODS = "/api/v1/namespaces/default/pods"
TOKEN = "/api/v1/namespaces/default/serviceaccounts/app/token"
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "app"}}
EXTRA = "authentication.kubernetes.io/"


async def who(client):
    return (await client.create(WHO, {})).json["status"]["userInfo"]


async def test_A46_wrong_tokens_are_401_and_never_anonymous(token_file):
    async with world(rbac=True, token_file=token_file) as made:
        for bad in ("wrong", "a.b.c", "x" * 8000):
            async with made.asked_by(bad) as client:
                answer = await client.get("/version")
                assert answer.code == 401
                assert answer.json == {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Failure",
                    "message": "Unauthorized",
                    "reason": "Unauthorized",
                    "code": 401,
                }


async def test_A46_static_tokens_name_users_and_groups(token_file):
    async with world(rbac=True, token_file=token_file) as made:
        async with made.asked_by("sesame") as client:
            groups = ["thieves", "readers", "system:authenticated"]
            assert await who(client) == {"username": "ali", "uid": "u1", "groups": groups}
            answer = await client.get(PODS)
            assert (answer.code, answer.json["reason"]) == (403, "Forbidden")
            assert answer.json["details"] == {"kind": "pods"}
        async with made.asked_by("root-token") as client:
            assert (await client.get(PODS)).code == 200
        async with made.asked_by() as client:
            assert (await client.get(PODS)).json["message"] == (
                'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the '
                'namespace "default"'
            )


async def test_without_anonymous_users_credentials_are_needed():
    async with world(anonymous=False) as made, made.asked_by() as client:
        assert (await client.get("/version")).code == 401


@pytest.mark.parametrize("line", ["alone", "a,b,c,d,e", ",user", "token,", "x,y\nx,z"])
def test_broken_token_files_are_refused(tmp_path, line):
    file = tmp_path / "tokens.csv"
    file.write_text(line + "\n")
    with pytest.raises(InvalidInput, match="line"):
        read_tokens(file)


# --- service accounts


def pod(name="p", account="app", node=""):
    spec = {"containers": [{"name": "c", "image": "i"}], "serviceAccountName": account}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {**spec, "nodeName": node} if node else spec,
    }


def bound(kind, name, **more):
    return {"spec": {"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, **more}}}


async def token_of(made, body=None):
    return (await made.admin.call("POST", TOKEN, body or {}))["status"]["token"]


def claims(token):
    part = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


async def test_A35_tokens_of_service_accounts():
    async with world() as made:
        account = await made.admin.create(ACCOUNT, "default")
        answer = await made.admin.call("POST", TOKEN, {"spec": {"expirationSeconds": 900}})
        assert answer["kind"] == "TokenRequest"
        assert answer["metadata"]["name"] == "app"
        assert answer["spec"] == {"expirationSeconds": 900, "audiences": [ISSUER], "boundObjectRef": None}
        assert answer["status"]["expirationTimestamp"] == "2026-03-01T12:15:00Z"
        token = answer["status"]["token"]
        said = claims(token)
        assert said["sub"] == "system:serviceaccount:default:app"
        assert said["exp"] - said["iat"] == 900
        assert said["kubernetes.io"] == {
            "namespace": "default",
            "serviceaccount": {"name": "app", "uid": account["metadata"]["uid"]},
        }
        async with made.asked_by(token) as client:
            found = await who(client)
            assert found["username"] == "system:serviceaccount:default:app"
            assert found["uid"] == account["metadata"]["uid"]
            assert found["groups"] == [
                "system:serviceaccounts",
                "system:serviceaccounts:default",
                "system:authenticated",
            ]
            assert found["extra"] == {f"{EXTRA}credential-id": [f"JTI={said['jti']}"]}
            made.clock.pass_(899)
            assert (await client.get("/version")).code == 200
            made.clock.pass_(1)
            assert (await client.get("/version")).code == 401


async def test_tokens_end_with_what_they_are_bound_to():
    async with world() as made:
        await made.admin.create(ACCOUNT, "default")
        node = await made.admin.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        one = await made.admin.create(pod(node="n1"), "default")
        token = await token_of(made, bound("Pod", "p"))
        async with made.asked_by(token) as client:
            extra = (await who(client))["extra"]
            assert extra[f"{EXTRA}pod-name"] == ["p"]
            assert extra[f"{EXTRA}pod-uid"] == [one["metadata"]["uid"]]
            assert extra[f"{EXTRA}node-name"] == ["n1"]
            assert extra[f"{EXTRA}node-uid"] == [node["metadata"]["uid"]]
            await made.admin.delete(pod(), "default", {"gracePeriodSeconds": 0})
            assert (await client.get("/version")).code == 401
            await made.admin.create(pod(node="n1"), "default")
            assert (await client.get("/version")).code == 401, "another pod of the same name"
        for_account = await token_of(made)
        for_node = await token_of(made, bound("Node", "n1"))
        async with made.asked_by(for_node) as client:
            assert (await who(client))["extra"][f"{EXTRA}node-name"] == ["n1"]
            await made.admin.delete(node)
            assert (await client.get("/version")).code == 401
        async with made.asked_by(for_account) as client:
            assert (await client.get("/version")).code == 200
            await made.admin.delete(ACCOUNT, "default")
            assert (await client.get("/version")).code == 401


async def test_token_requests_are_checked():
    async with world() as made:
        await made.admin.create(ACCOUNT, "default")
        await made.admin.create(pod("other", "default"), "default")
        await made.admin.create(pod(), "default")
        cases = [
            ({"spec": {"expirationSeconds": 599}}, 422, "may not specify a duration less than 10 minutes"),
            ({"spec": {"expirationSeconds": 1 << 33}}, 422, "may not specify a duration larger than 2^32 seconds"),
            ({"metadata": {"name": "x"}}, 422, "must match the service account name if specified"),
            (bound("Pod", "none"), 404, 'pods "none" not found'),
            (bound("Pod", "other"), 400, "pod running with different serviceaccount name"),
            (bound("Pod", "p", uid="wrong"), 409, "does not match the UID in record"),
            (bound("ConfigMap", "x"), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        ]
        for body, code, text in cases:
            with pytest.raises(Refused) as caught:
                await made.admin.call("POST", TOKEN, body)
            assert caught.value.code == code, body
            assert text in caught.value.message
        with pytest.raises(Refused) as caught:
            await made.admin.call("POST", TOKEN.replace("app", "none"), {})
        assert caught.value.code == 404


async def test_forged_tokens_are_nobodys():
    async with world() as made, world() as elsewhere:
        for each in (made, elsewhere):
            await each.admin.create(ACCOUNT, "default")
        token = await token_of(made)
        head, body, signature = token.split(".")
        said = {**claims(token), "sub": "system:serviceaccount:kube-system:admin"}
        changed = base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()
        none = base64.urlsafe_b64encode(b'{"alg":"none"}').rstrip(b"=").decode()
        identify = made.security.tokens.identify
        assert identify(token) is not None
        for forged in (
            f"{head}.{changed}.{signature}",
            f"{none}.{body}.",
            f"{head}.{body}.",
            f"{head}.{body}.{signature[:-4]}AAAA",
            f"{head}.{body}.{'A' * 86}",
            f"{head}.{body}.é",
            await token_of(elsewhere),
        ):
            assert identify(forged) is None, forged
        assert identify(token, ("another",)) is None
        special = await token_of(made, {"spec": {"audiences": ["vault"]}})
        assert identify(special) is None
        assert identify(special, ("vault",)) is not None


async def test_tokens_outlive_the_server_when_there_is_a_folder(tmp_path):
    async with world(tmp_path) as made:
        await made.admin.create(ACCOUNT, "default")
        token = await token_of(made)
        uid = claims(token)["kubernetes.io"]["serviceaccount"]["uid"]
    key = tmp_path / "service-account.key"
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    async with world(tmp_path) as made:
        assert made.security.tokens.identify(token) is None, "the account is gone"
        key_of_new = made.security.tokens._key
        assert key_of_new.verify(token)["kubernetes.io"]["serviceaccount"]["uid"] == uid


async def test_token_reviews(token_file):
    async with world(token_file=token_file) as made:
        await made.admin.create(ACCOUNT, "default")
        review = "/apis/authentication.k8s.io/v1/tokenreviews"
        good = await made.admin.call("POST", review, {"spec": {"token": await token_of(made)}})
        assert good["status"]["authenticated"]
        assert good["status"]["user"]["username"] == "system:serviceaccount:default:app"
        assert good["status"]["audiences"] == [ISSUER]
        static = await made.admin.call("POST", review, {"spec": {"token": "plain"}})
        assert static["status"]["user"] == {"username": "joe", "groups": ["system:authenticated"]}
        assert static["status"]["audiences"] == [ISSUER]
        for token, asked, found in (
            (await token_of(made), ["vault", ISSUER], [ISSUER]),
            (await token_of(made), ["vault"], None),
            (await token_of(made, {"spec": {"audiences": ["vault", "a"]}}), ["b", "vault"], ["vault"]),
            ("plain", ["vault", ISSUER], [ISSUER]),
            ("plain", ["vault"], None),
        ):
            status = (await made.admin.call("POST", review, {"spec": {"token": token, "audiences": asked}}))["status"]
            assert status.get("audiences") == found
            assert status.get("authenticated", False) == (found is not None)
        bad = await made.admin.call("POST", review, {"spec": {"token": "wrong"}})
        assert bad["status"] == {"user": {}, "error": "invalid bearer token"}
        with pytest.raises(Refused) as caught:
            await made.admin.call("POST", review, {"spec": {}})
        assert caught.value.code == 422


# --- acting as another


async def test_users_act_as_others_if_they_may(token_file):
    async with (
        world(rbac=True, token_file=token_file) as made,
        made.listening() as url,
        aiohttp.ClientSession(url) as session,
    ):

        async def ask(token, **headers):
            shown = {"Authorization": f"Bearer {token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
            async with session.post(WHO, json={}, headers=shown) as response:
                return response.status, await response.json()

        code, found = await ask("root-token", Impersonate_User="jane", Impersonate_Group="team", Impersonate_Uid="7")
        assert code == 201
        info = found["status"]["userInfo"]
        assert info == {"username": "jane", "uid": "7", "groups": ["team", "system:authenticated"]}
        account = "system:serviceaccount:default:app"
        code, found = await ask("root-token", Impersonate_User=account, **{"Impersonate-Extra-a%2Fb": "c"})
        assert found["status"]["userInfo"]["groups"][0] == "system:serviceaccounts"
        assert found["status"]["userInfo"]["extra"] == {"a/b": ["c"]}
        code, found = await ask("sesame", Impersonate_User="jane")
        assert (code, found["message"]) == (
            403,
            (
                'users "jane" is forbidden: User "ali" cannot impersonate resource "users" in API group "" at the '
                "cluster scope"
            ),
        )
        code, found = await ask("sesame", Impersonate_User=account)
        assert code == 403
        assert found["message"].startswith('serviceaccounts "app" is forbidden')
        assert (await ask("root-token", Impersonate_Group="team"))[0] == 400


# --- TLS


def contexts(authority, pair, tmp_path):
    client = ssl.create_default_context(cadata=authority.certificate.decode())
    if pair is not None:
        file = tmp_path / "client.pem"
        file.write_bytes(pair.certificate + pair.key)
        client.load_cert_chain(file)
    return client


async def test_A46_tls_with_client_certificates(tmp_path):
    authority = Authority(tmp_path / "pki", dt.datetime.now(dt.UTC))
    async with world(rbac=True) as made, made.listening(authority.server_context(["127.0.0.1"])) as url:
        for user, groups, code in (
            ("kubernetes-admin", ["system:masters"], 200),
            ("joe", ["team"], 403),
            (None, [], 403),
        ):
            pair = authority.client(user, groups) if user else None
            connector = aiohttp.TCPConnector(ssl=contexts(authority, pair, tmp_path))
            async with aiohttp.ClientSession(url, connector=connector) as session:
                client = Client(session)
                answer = await client.get(PODS)
                assert answer.code == code
                if user == "joe":
                    found = await who(client)
                    assert found["groups"] == ["team", "system:authenticated"]
                    assert found["extra"][f"{EXTRA}credential-id"][0].startswith("X509SHA256=")
        stranger = Authority(None, dt.datetime.now(dt.UTC))
        wrong = contexts(authority, stranger.client("kubernetes-admin", ["system:masters"]), tmp_path)
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=wrong)) as session:
            with pytest.raises((aiohttp.ClientError, ssl.SSLError)):
                await session.get(PODS)
        unknown = ssl.create_default_context(cadata=stranger.certificate.decode())
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(ssl=unknown)) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(PODS)


def test_the_authority_is_kept_in_its_folder(tmp_path):
    now = dt.datetime.now(dt.UTC)
    first = Authority(tmp_path / "pki", now)
    assert Authority(tmp_path / "pki", now).certificate == first.certificate
    assert stat.S_IMODE((tmp_path / "pki" / "ca.key").stat().st_mode) == 0o600
    assert Authority(None, now).certificate != first.certificate


def test_users_of_certificates():
    subject = ((("organizationName", "a"),), (("organizationName", "b"),), (("commonName", "me"),))
    assert certificate_user({"subject": subject}) == UserInfo("me", ("a", "b", "system:authenticated"))
    assert certificate_user({"subject": ((("organizationName", "a"),),)}) is None
    assert certificate_user({}) is None


def test_kubeconfigs_are_for_their_owner_alone(tmp_path):
    authority = Authority(None, dt.datetime.now(dt.UTC))
    content = kubeconfig("https://127.0.0.1:1", ca=authority.certificate, client=authority.client("me"))
    file = tmp_path / "new" / "kubeconfig"
    write_kubeconfig(file, content)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    read = yaml.safe_load(file.read_text())
    user = read["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]).startswith(b"-----BEGIN PRIVATE KEY-----")
    assert base64.b64decode(read["clusters"][0]["cluster"]["certificate-authority-data"]) == authority.certificate
    plain = kubeconfig("http://localhost:55441", name="mock-apiserver")
    assert plain["current-context"] == plain["contexts"][0]["name"] == "mock-apiserver"
    assert kubeconfig("http://x", token="t")["users"][0]["user"] == {"token": "t"}
