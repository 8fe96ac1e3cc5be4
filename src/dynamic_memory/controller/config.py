# SPDX-License-Identifier: Apache-2.0
"""Settings of the controller.

Example:
    owner: cluster
    fabric: {address: "service.dynamic-memory.svc:7443"}

"""

import os
import socket
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct, field

from dynamic_memory.controller.approver import Rules
from dynamic_memory.fabric import identity
from dynamic_memory.process.config import Seconds

__all__ = [
    "AccountsConfig",
    "AuthorityConfig",
    "ControllerConfig",
    "ElectionConfig",
    "FabricConfig",
    "OrphansConfig",
    "PublishConfig",
    "TlsConfig",
    "WaitingConfig",
]

Positive = Annotated[int, Meta(ge=1)]
Part = Annotated[float, Meta(ge=0, le=1)]


class TlsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the certificate is.

    Attributes:
        directory: folder with `ca.crt`, `tls.crt`, `tls.key`.
        obtain: get it by a CertificateSigningRequest and keep it fresh; otherwise the files are somebody else's work.

    """

    directory: Path = Path("/var/run/dynamic-memory/tls")
    obtain: bool = True


class FabricConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the Dynamic Memory Service is.

    Attributes:
        address: `host:port`, or `unix:<path>`.
        tls: None only for a service on this machine (tests, laptops).
        refresh: between two looks at the whole capacity, beside the changes that the service tells.

    """

    address: str
    tls: TlsConfig | None = field(default_factory=TlsConfig)
    refresh: Seconds = Seconds(30)


class ElectionConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The Lease by which one controller leads.

    Attributes:
        name: of the Lease.
        identity: of this process; the pod's name, or host name and process id, if empty.

    """

    name: str = "dynamic-memory-controller"
    identity: str = ""

    @property
    def holder(self) -> str:
        """Identity of this process."""
        return self.identity or os.environ.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}"


class PublishConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How pools are published.

    Attributes:
        settle: how long a share that is new may be without a claim before it counts as without owner.
        resync: between two comparisons of all slices with what they should be.

    """

    settle: Seconds = Seconds(1)
    resync: Seconds = Seconds(60)


class OrphansConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How memory that belongs to nobody is found.

    Attributes:
        after: how long a share must be without a claim before claims are listed for it.
        interval: between two such lists, at least.
        at_once: how many orphans may be acted upon at once …
        part: … or which part of all shares, if that is more. Beyond that nothing is done, and somebody is told.

    """

    after: Seconds = Seconds(5)
    interval: Seconds = Seconds(10)
    at_once: Positive = 5
    part: Part = 0.2


class WaitingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When a pod is told that it waits for a driver that is not there.

    Attributes:
        after: how long it has waited.
        binding_timeout: the scheduler's `bindingTimeout`, which the message names.

    """

    after: Seconds = Seconds(30)
    binding_timeout: Seconds = Seconds(600)


class AccountsConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """ServiceAccounts that may have the certificates: a name in the controller's namespace, or `namespace/name`.

    Attributes:
        nodes: may be the node that they run on.
        controller: may be the controller.
        service: may be the service.
        operator: may be an operator, who can force a release. None by default.

    """

    nodes: tuple[str, ...] = ("driver",)
    controller: tuple[str, ...] = ("controller",)
    service: tuple[str, ...] = ("service",)
    operator: tuple[str, ...] = ()


class AuthorityConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The signer of certificates.

    Attributes:
        enabled: sign at all; false where certificates come from elsewhere.
        lifetime: of a certificate, at most.
        accounts: who may be what.
        service_names: DNS names that the service may have; those of Service `service` in our namespace if empty.

    """

    enabled: bool = True
    lifetime: Seconds = Seconds(24 * 3600)
    accounts: AccountsConfig = field(default_factory=AccountsConfig)
    service_names: tuple[str, ...] = ()


class ControllerConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the controller can be told.

    Attributes:
        owner: name of this cluster at the service.
        fabric: where the service is.
        namespace: where the Lease and the authority are, and the ServiceAccounts.
        kubeconfig: file for a controller outside of the cluster; None for the pod's own token.
        health: `host:port` of /healthz, /readyz and /metrics; None for none.
        election: see `ElectionConfig`; None for a single process that always leads (tests, laptops).
        publish: see `PublishConfig`.
        orphans: see `OrphansConfig`.
        waiting: see `WaitingConfig`.
        authority: see `AuthorityConfig`.

    """

    owner: str
    fabric: FabricConfig
    namespace: str = "dynamic-memory"
    kubeconfig: str | None = None
    health: str | None = "127.0.0.1:8080"
    election: ElectionConfig | None = field(default_factory=ElectionConfig)
    publish: PublishConfig = field(default_factory=PublishConfig)
    orphans: OrphansConfig = field(default_factory=OrphansConfig)
    waiting: WaitingConfig = field(default_factory=WaitingConfig)
    authority: AuthorityConfig = field(default_factory=AuthorityConfig)

    def __post_init__(self) -> None:
        if not identity.is_name(self.owner):
            raise ValueError("owner must be a DNS subdomain, the cluster's name at the service")
        if not self.fabric.address:
            raise ValueError("fabric.address must not be empty")

    @property
    def identity(self) -> str:
        """Who the controller is to the service, as a URI."""
        return str(identity.Identity.role(self.owner, identity.CONTROLLER))

    def rules(self) -> Rules:
        """Return whom to sign certificates for."""
        accounts = self.authority.accounts
        service_names = self.authority.service_names or [
            f"service.{self.namespace}{suffix}" for suffix in ("", ".svc", ".svc.cluster.local")
        ]
        return Rules(
            owner=self.owner,
            nodes=self._usernames(accounts.nodes),
            roles={
                identity.CONTROLLER: self._usernames(accounts.controller),
                identity.SERVICE: self._usernames(accounts.service),
                identity.OPERATOR: self._usernames(accounts.operator),
            },
            service_names=frozenset(service_names),
        )

    def _usernames(self, accounts: tuple[str, ...]) -> frozenset[str]:
        full = (name if "/" in name else f"{self.namespace}/{name}" for name in accounts)
        return frozenset("system:serviceaccount:" + name.replace("/", ":", 1) for name in full)
