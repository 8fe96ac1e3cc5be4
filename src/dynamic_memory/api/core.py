# SPDX-License-Identifier: Apache-2.0
"""Wire types of the core group: what is read of pods, nodes, secrets and config maps."""

from msgspec import field

from dynamic_memory.api.meta import Condition, ObjectMeta
from dynamic_memory.api.wire import QuantityText, Wire

__all__ = [
    "ConfigMap",
    "Container",
    "ContainerState",
    "ContainerStatus",
    "Namespace",
    "Node",
    "NodeSelector",
    "NodeSelectorRequirement",
    "NodeSelectorTerm",
    "NodeSpec",
    "NodeStatus",
    "NodeSystemInfo",
    "ObjectReference",
    "Pod",
    "PodResourceClaim",
    "PodResourceClaimStatus",
    "PodSpec",
    "PodStatus",
    "ResourceRequirements",
    "ResourceRequirementsClaim",
    "Secret",
    "Taint",
    "Toleration",
]


class ObjectReference(Wire, frozen=True, kw_only=True):
    """Which object an Event is about, and which part of it (`spec.containers{app}`)."""

    api_version: str = ""
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    field_path: str = ""


class NodeSelectorRequirement(Wire, frozen=True, kw_only=True):
    """One condition on a label or field; operator is In, NotIn, Exists, DoesNotExist, Gt or Lt."""

    key: str
    operator: str
    values: list[str] = []


class NodeSelectorTerm(Wire, frozen=True, kw_only=True):
    """All conditions of a term must hold."""

    match_expressions: list[NodeSelectorRequirement] = []
    match_fields: list[NodeSelectorRequirement] = []


class NodeSelector(Wire, frozen=True, kw_only=True):
    """One term must hold."""

    node_selector_terms: list[NodeSelectorTerm] = []


class Toleration(Wire, frozen=True, kw_only=True):
    """A taint that is put up with, of a node or of a device."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""
    toleration_seconds: int | None = None


class Taint(Wire, frozen=True, kw_only=True):
    """A taint of a node."""

    key: str
    effect: str
    value: str = ""
    time_added: str | None = None


class ResourceRequirementsClaim(Wire, frozen=True, kw_only=True):
    """A claim, or one request of it, that a container uses."""

    name: str
    request: str = ""


class ResourceRequirements(Wire, frozen=True, kw_only=True):
    """Requests and limits of a container or pod."""

    requests: dict[str, QuantityText] = {}
    limits: dict[str, QuantityText] = {}
    claims: list[ResourceRequirementsClaim] = []


class Container(Wire, frozen=True, kw_only=True):
    """A container, as far as memory is concerned."""

    name: str
    image: str = ""
    restart_policy: str | None = None
    resources: ResourceRequirements = field(default_factory=ResourceRequirements)


class PodResourceClaim(Wire, frozen=True, kw_only=True):
    """A claim of a pod: by name, or made from a template."""

    name: str
    resource_claim_name: str | None = None
    resource_claim_template_name: str | None = None


class PodSpec(Wire, frozen=True, kw_only=True):
    """What is read of a pod's spec."""

    node_name: str = ""
    scheduler_name: str = ""
    node_selector: dict[str, str] = {}
    containers: list[Container] = []
    init_containers: list[Container] = []
    resources: ResourceRequirements | None = None
    resource_claims: list[PodResourceClaim] = []
    tolerations: list[Toleration] = []
    priority: int | None = None
    termination_grace_period_seconds: int | None = None


class PodResourceClaimStatus(Wire, frozen=True, kw_only=True):
    """The name of the claim that was made for an entry of `spec.resourceClaims`."""

    name: str
    resource_claim_name: str | None = None


class ContainerState(Wire, frozen=True, kw_only=True):
    """Which of the three is set tells the state."""

    running: dict[str, object] | None = None
    waiting: dict[str, object] | None = None
    terminated: dict[str, object] | None = None


class ContainerStatus(Wire, frozen=True, kw_only=True):
    """State of one container."""

    name: str
    ready: bool = False
    restart_count: int = 0
    container_id: str = field(default="", name="containerID")
    state: ContainerState = field(default_factory=ContainerState)


class PodStatus(Wire, frozen=True, kw_only=True):
    """What is read of a pod's status."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    nominated_node_name: str = ""
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    resource_claim_statuses: list[PodResourceClaimStatus] = []


class Pod(Wire, frozen=True, kw_only=True):
    """A pod; namespaced."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: PodSpec = field(default_factory=PodSpec)
    status: PodStatus = field(default_factory=PodStatus)


class NodeSystemInfo(Wire, frozen=True, kw_only=True):
    """Identity of the machine and its software."""

    boot_id: str = field(default="", name="bootID")
    machine_id: str = field(default="", name="machineID")
    kubelet_version: str = ""
    kernel_version: str = ""
    container_runtime_version: str = ""


class NodeSpec(Wire, frozen=True, kw_only=True):
    """What is read of a node's spec."""

    unschedulable: bool = False
    taints: list[Taint] = []
    provider_id: str = field(default="", name="providerID")


class NodeStatus(Wire, frozen=True, kw_only=True):
    """What is read of a node's status."""

    capacity: dict[str, QuantityText] = {}
    allocatable: dict[str, QuantityText] = {}
    conditions: list[Condition] = []
    node_info: NodeSystemInfo = field(default_factory=NodeSystemInfo)
    declared_features: list[str] = []


class Node(Wire, frozen=True, kw_only=True):
    """A node; cluster-scoped."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    spec: NodeSpec = field(default_factory=NodeSpec)
    status: NodeStatus = field(default_factory=NodeStatus)


class Namespace(Wire, frozen=True, kw_only=True):
    """A namespace; only its labels are read."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)


class Secret(Wire, frozen=True, kw_only=True):
    """A secret; values are base64 text as on the wire."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    data: dict[str, str] = {}
    type: str = ""


class ConfigMap(Wire, frozen=True, kw_only=True):
    """A config map."""

    metadata: ObjectMeta = field(default_factory=ObjectMeta)
    data: dict[str, str] = {}
