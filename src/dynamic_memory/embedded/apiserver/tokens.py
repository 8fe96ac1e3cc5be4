# SPDX-License-Identifier: Apache-2.0
"""Tokens of service accounts: JWTs that this server signs (ES256) and is the only one to check.

A token names its service account and, when it is bound, a pod, node or secret; it is good while all of them exist and
have the same uid, and until it expires. The key is made when the first token is, and kept in the data folder.
Source: k8s.io/kubernetes, `pkg/serviceaccount/claims.go`; KEP-1205, KEP-4193.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec.json

from dynamic_memory.embedded.apiserver.request import UserInfo
from dynamic_memory.embedded.apiserver.resource import World
from dynamic_memory.errors import InvalidInput
from dynamic_memory.process import durable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

__all__ = ["ISSUER", "TokenKey", "Tokens", "account_groups"]

Object = dict[str, Any]

ISSUER = "https://kubernetes.default.svc.cluster.local"
PREFIX = "authentication.kubernetes.io/"
LONGEST = 16_384  # characters of a token that are looked at
GRACE = dt.timedelta(seconds=60)  # how long a token outlives the deletion of what it is bound to
COORDINATE = 32  # bytes of each half of a signature


def account_groups(namespace: str) -> tuple[str, ...]:
    """Return the groups of every service account of a namespace."""
    return ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class TokenKey:
    """The key that signs.

    Args:
        folder: where it is kept, None = in memory: tokens end with the server.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self._path = None if folder is None else folder / "service-account.key"
        self._key: EllipticCurvePrivateKey | None = None
        self._header = ""

    def prepare(self) -> None:
        """Read the key, or make and keep it; blocks for the time of a write to disk."""
        # cryptography takes 12 MB: only a server that issues tokens has it in memory
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

        if self._key is not None:
            return
        data = None if self._path is None else durable.read(self._path)
        if data is not None:
            found = serialization.load_pem_private_key(data, password=None)
            if not isinstance(found, ec.EllipticCurvePrivateKey):
                raise InvalidInput(str(self._path), "a key of an elliptic curve", type(found).__name__)
            key = found
        else:
            key = ec.generate_private_key(ec.SECP256R1())
            if self._path is not None:
                form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                durable.write(self._path, key.private_bytes(serialization.Encoding.PEM, form, plain))
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        name = _encode(hashlib.sha256(public).digest())
        self._header = _encode(msgspec.json.encode({"alg": "ES256", "kid": name}))
        self._key = key

    def _ready(self) -> EllipticCurvePrivateKey | None:
        """Return the key if there is one: without a key no token was ever signed."""
        if self._key is None and self._path is not None and self._path.exists():
            self.prepare()
        return self._key

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return the token of claims; `prepare` comes first."""
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

        key = self._ready()
        if key is None:
            self.prepare()
            return self.sign(claims)
        signed = f"{self._header}.{_encode(msgspec.json.encode(claims))}"
        r, s = utils.decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_encode(r.to_bytes(COORDINATE, 'big') + s.to_bytes(COORDINATE, 'big'))}"

    def verify(self, token: str) -> Object | None:
        """Return the claims of a token that this key signed, else None."""
        key = self._ready()
        if key is None:
            return None
        from cryptography.exceptions import InvalidSignature  # noqa: PLC0415
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec, utils  # noqa: PLC0415

        try:
            header, body, signature = token.split(".")
            raw = _decode(signature)
            if header != self._header or len(raw) != 2 * COORDINATE:
                return None
            r, s = int.from_bytes(raw[:COORDINATE], "big"), int.from_bytes(raw[COORDINATE:], "big")
            data = f"{header}.{body}".encode()
            key.public_key().verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(hashes.SHA256()))
            claims = msgspec.json.decode(_decode(body))
        except (ValueError, InvalidSignature, msgspec.DecodeError):
            return None
        return claims if isinstance(claims, dict) else None


class Tokens:
    """Issues tokens and says whose they are.

    Args:
        key: signs.
        world: the stored objects.
        now: the time.

    """

    def __init__(self, key: TokenKey, world: World, now: Callable[[], dt.datetime]) -> None:
        self._key = key
        self._world = world
        self._now = now
        self._verified: dict[str, Object] = {}

    def issue(
        self,
        account: Object,
        seconds: int,
        audiences: tuple[str, ...],
        *,
        pod: Object | None = None,
        node: Object | None = None,
        secret: Object | None = None,
    ) -> str:
        """Return a token of a service account, good for some seconds, bound to what is given."""
        now = int(self._now().timestamp())
        metadata = account["metadata"]
        bound: Object = {
            "namespace": metadata["namespace"],
            "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
        }
        for kind, obj in (("pod", pod), ("node", node), ("secret", secret)):
            if obj is not None:
                bound[kind] = {key: obj["metadata"].get(key, "") for key in ("name", "uid")}
        return self._key.sign(
            {
                "aud": list(audiences or (ISSUER,)),
                "exp": now + seconds,
                "iat": now,
                "iss": ISSUER,
                "jti": str(uuid.uuid4()),
                "kubernetes.io": bound,
                "nbf": now,
                "sub": f"system:serviceaccount:{metadata['namespace']}:{metadata['name']}",
            }
        )

    def identify(self, token: str, audiences: tuple[str, ...] = (ISSUER,)) -> UserInfo | None:
        """Return whose token it is, None when it is nobody's (any more), or meant for another audience."""
        found = self.reviewed(token, audiences)
        return None if found is None else found[0]

    def reviewed(self, token: str, audiences: tuple[str, ...]) -> tuple[UserInfo, tuple[str, ...]] | None:
        """Return whose token it is, with those of the audiences that it is meant for; None as `identify`."""
        if token.count(".") != 2 or len(token) > LONGEST:  # noqa: PLR2004 - a JWT has three parts
            return None
        claims = self._verified.get(token)
        if claims is None:
            claims = self._key.verify(token)
            if claims is None:
                return None
            if len(self._verified) >= 1000:  # noqa: PLR2004 - signatures that are remembered
                self._verified.clear()
            self._verified[token] = claims
        now = self._now().timestamp()
        if claims["iss"] != ISSUER or not claims["nbf"] <= now + 1 or now >= claims["exp"]:
            return None
        shared = tuple(audience for audience in audiences if audience in claims["aud"])
        user = self._user(claims) if shared else None
        return None if user is None else (user, shared)

    def _user(self, claims: Object) -> UserInfo | None:
        bound = claims["kubernetes.io"]
        namespace, account = bound["namespace"], bound["serviceaccount"]
        if not self._alive("serviceaccounts", namespace, account):
            return None
        extra: dict[str, tuple[str, ...]] = {f"{PREFIX}credential-id": (f"JTI={claims['jti']}",)}
        pod, node, secret = bound.get("pod"), bound.get("node"), bound.get("secret")
        if pod is not None:
            if not self._alive("pods", namespace, pod):
                return None
            extra[f"{PREFIX}pod-name"], extra[f"{PREFIX}pod-uid"] = (pod["name"],), (pod["uid"],)
        if secret is not None and not self._alive("secrets", namespace, secret):
            return None
        if node is not None:
            if pod is None and not self._alive("nodes", "", node):
                return None
            extra[f"{PREFIX}node-name"] = (node["name"],)
            if node["uid"]:
                extra[f"{PREFIX}node-uid"] = (node["uid"],)
        return UserInfo(claims["sub"], account_groups(namespace), account["uid"], extra)

    def _alive(self, plural: str, namespace: str, wanted: Mapping[str, str]) -> bool:
        obj = self._world.get("", plural, namespace, wanted["name"])
        if obj is None or obj["metadata"].get("uid") != wanted["uid"]:
            return False
        deleted = obj["metadata"].get("deletionTimestamp")
        return not deleted or self._now() < dt.datetime.fromisoformat(deleted) + GRACE
