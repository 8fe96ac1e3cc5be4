# SPDX-License-Identifier: Apache-2.0
"""What Go calls the types of fields that are texts with a name: messages of its decoder say so.

One row a type: each field with the name of its type, or of its elements' one. A name without a package is of `v1`.
Source: types.go of k8s.io/api, apimachinery and apiextensions-apiserver of Kubernetes 1.37.
"""

from __future__ import annotations

import functools
from typing import Final

__all__ = ["go_name"]

_NAMES: Final[dict[str, str]] = {
    "AppArmorProfile": "type AppArmorProfileType",
    "AttachedVolume": "name UniqueVolumeName",
    "AzureDiskVolumeSource": "cachingMode AzureDataDiskCachingMode; kind AzureDataDiskKind",
    "BoundObjectReference": "uid types.UID",
    "CSIDriverSpec": "fsGroupPolicy FSGroupPolicy; volumeLifecycleModes VolumeLifecycleMode",
    "Capabilities": "add Capability; drop Capability",
    "CertificateSigningRequestCondition": "status ConditionStatus; type RequestConditionType",
    "CertificateSigningRequestSpec": "usages KeyUsage",
    "ComponentCondition": "status ConditionStatus; type ComponentConditionType",
    "Condition": "status ConditionStatus",
    "ConfigMapNodeConfigSource": "uid types.UID",
    "Container": (
        "imagePullPolicy PullPolicy; restartPolicy ContainerRestartPolicy; "
        "terminationMessagePolicy TerminationMessagePolicy"
    ),
    "ContainerPort": "protocol Protocol",
    "ContainerResizePolicy": "resourceName ResourceName; restartPolicy ResourceResizeRestartPolicy",
    "ContainerResourceMetricSource": "name ResourceName",
    "ContainerResourceMetricStatus": "name ResourceName",
    "ContainerRestartRule": "action ContainerRestartRuleAction",
    "ContainerRestartRuleOnExitCodes": "operator ContainerRestartRuleOnExitCodesOperator",
    "ContainerStatus": "stopSignal Signal",
    "ConversionRequest": "uid types.UID",
    "ConversionResponse": "uid types.UID",
    "CronJobSpec": "concurrencyPolicy ConcurrencyPolicy",
    "CustomResourceConversion": "strategy ConversionStrategyType",
    "CustomResourceDefinitionCondition": "status ConditionStatus; type CustomResourceDefinitionConditionType",
    "CustomResourceDefinitionSpec": "scope ResourceScope",
    "DaemonSetCondition": "status ConditionStatus; type DaemonSetConditionType",
    "DaemonSetUpdateStrategy": "type DaemonSetUpdateStrategyType",
    "DeleteOptions": "propagationPolicy DeletionPropagation",
    "DeploymentCondition": "status ConditionStatus; type DeploymentConditionType",
    "DeploymentStrategy": "type DeploymentStrategyType",
    "DeviceAllocationConfiguration": "source AllocationConfigSource",
    "DeviceConstraint": "distinctAttribute FullyQualifiedName; matchAttribute FullyQualifiedName",
    "DeviceDerivedAttribute": "name FullyQualifiedName",
    "DeviceRequestAllocationResult": "shareID types.UID; skipNodeOperations SkipNodeOperation",
    "DeviceSubRequest": "allocationMode DeviceAllocationMode",
    "DeviceTaint": "effect DeviceTaintEffect",
    "DeviceToleration": "effect DeviceTaintEffect; operator DeviceTolerationOperator",
    "EmptyDirVolumeSource": "medium StorageMedium",
    "EndpointPort": "protocol Protocol",
    "EndpointSlice": "addressType AddressType",
    "EphemeralContainerCommon": (
        "imagePullPolicy PullPolicy; restartPolicy ContainerRestartPolicy; "
        "terminationMessagePolicy TerminationMessagePolicy"
    ),
    "ExactDeviceRequest": "allocationMode DeviceAllocationMode",
    "FieldSelectorRequirement": "operator FieldSelectorOperator",
    "GRPCAction": "mode GRPCProbeMode",
    "HPAScalingPolicy": "type v2.HPAScalingPolicyType",
    "HPAScalingRules": "selectPolicy v2.ScalingPolicySelect",
    "HTTPGetAction": "protocol HTTPProtocol; scheme URIScheme",
    "HTTPIngressPath": "pathType PathType",
    "HorizontalPodAutoscalerCondition": "status ConditionStatus; type HorizontalPodAutoscalerConditionType",
    "HostPathVolumeSource": "type HostPathType",
    "ImageVolumeSource": "pullPolicy PullPolicy",
    "IngressPortStatus": "protocol Protocol",
    "JobCondition": "status ConditionStatus; type JobConditionType",
    "JobSpec": "completionMode CompletionMode; podReplacementPolicy PodReplacementPolicy",
    "LabelSelectorRequirement": "operator LabelSelectorOperator",
    "LeaseSpec": "strategy CoordinatedLeaseStrategy",
    "Lifecycle": "stopSignal Signal",
    "LimitRangeItem": "type LimitType",
    "ListOptions": "resourceVersionMatch ResourceVersionMatch",
    "LoadBalancerIngress": "ipMode LoadBalancerIPMode",
    "ManagedFieldsEntry": "operation ManagedFieldsOperationType",
    "MatchResources": "matchPolicy MatchPolicyType",
    "MetricSpec": "type MetricSourceType",
    "MetricStatus": "type MetricSourceType",
    "MetricTarget": "type v2.MetricTargetType",
    "ModifyVolumeStatus": "status PersistentVolumeClaimModifyVolumeStatus",
    "MutatingAdmissionPolicySpec": "failurePolicy FailurePolicyType; reinvocationPolicy ReinvocationPolicyType",
    "MutatingWebhook": (
        "failurePolicy FailurePolicyType; matchPolicy MatchPolicyType; "
        "reinvocationPolicy ReinvocationPolicyType; sideEffects SideEffectClass"
    ),
    "Mutation": "patchType PatchType",
    "NamespaceCondition": "status ConditionStatus; type NamespaceConditionType",
    "NamespaceSpec": "finalizers FinalizerName",
    "NamespaceStatus": "phase NamespacePhase",
    "NetworkPolicyPort": "protocol Protocol",
    "NetworkPolicySpec": "policyTypes PolicyType",
    "NodeAddress": "type NodeAddressType",
    "NodeAllocatableMappedResources": "name ResourceName",
    "NodeAllocatableMapping": "capacityKey QualifiedName",
    "NodeAllocatableOverheadResources": "name ResourceName",
    "NodeCondition": "status ConditionStatus; type NodeConditionType",
    "NodeSelectorRequirement": "operator NodeSelectorOperator",
    "NodeStatus": "phase NodePhase; volumesInUse UniqueVolumeName",
    "ObjectMeta": "uid types.UID",
    "ObjectReference": "uid types.UID",
    "OwnerReference": "uid types.UID",
    "ParamRef": "parameterNotFoundAction ParameterNotFoundActionType",
    "PersistentVolumeClaimCondition": "status ConditionStatus; type PersistentVolumeClaimConditionType",
    "PersistentVolumeClaimSpec": "accessModes PersistentVolumeAccessMode; volumeMode PersistentVolumeMode",
    "PersistentVolumeClaimStatus": "accessModes PersistentVolumeAccessMode; phase PersistentVolumeClaimPhase",
    "PersistentVolumeSpec": (
        "accessModes PersistentVolumeAccessMode; "
        "persistentVolumeReclaimPolicy PersistentVolumeReclaimPolicy; volumeMode PersistentVolumeMode"
    ),
    "PersistentVolumeStatus": "phase PersistentVolumePhase",
    "PodCertificateRequestSpec": (
        "nodeName types.NodeName; nodeUID types.UID; podUID types.UID; serviceAccountUID types.UID"
    ),
    "PodCondition": "status ConditionStatus; type PodConditionType",
    "PodDisruptionBudgetSpec": "unhealthyPodEvictionPolicy UnhealthyPodEvictionPolicyType",
    "PodFailurePolicyOnExitCodesRequirement": "operator PodFailurePolicyOnExitCodesOperator",
    "PodFailurePolicyOnPodConditionsPattern": "status ConditionStatus; type PodConditionType",
    "PodFailurePolicyRule": "action PodFailurePolicyAction",
    "PodOS": "name OSName",
    "PodReadinessGate": "conditionType PodConditionType",
    "PodSecurityContext": (
        "fsGroupChangePolicy PodFSGroupChangePolicy; seLinuxChangePolicy PodSELinuxChangePolicy; "
        "supplementalGroupsPolicy SupplementalGroupsPolicy"
    ),
    "PodSpec": "dnsPolicy DNSPolicy; preemptionPolicy PreemptionPolicy; restartPolicy RestartPolicy",
    "PodStatus": "phase PodPhase; qosClass PodQOSClass; resize PodResizeStatus",
    "PortStatus": "protocol Protocol",
    "Preconditions": "uid types.UID",
    "ReplicaSetCondition": "status ConditionStatus; type ReplicaSetConditionType",
    "ReplicationControllerCondition": "status ConditionStatus; type ReplicationControllerConditionType",
    "ResourceClaimConsumerReference": "uid types.UID",
    "ResourceHealth": "health ResourceHealthStatus; resourceID ResourceID",
    "ResourceMetricSource": "name ResourceName",
    "ResourceMetricStatus": "name ResourceName",
    "ResourceQuotaSpec": "scopes ResourceQuotaScope",
    "ResourceSliceSpec": "partitionTypeAttribute FullyQualifiedName; skipNodeOperations SkipNodeOperation",
    "ResourceStatus": "name ResourceName",
    "Rule": "scope ScopeType",
    "RuleWithOperations": "operations OperationType",
    "ScopedResourceSelectorRequirement": "operator ScopeSelectorOperator; scopeName ResourceQuotaScope",
    "SeccompProfile": "type SeccompProfileType",
    "Secret": "type SecretType",
    "SecurityContext": "procMount ProcMountType",
    "ServicePort": "protocol Protocol",
    "ServiceSpec": (
        "externalTrafficPolicy ServiceExternalTrafficPolicy; "
        "internalTrafficPolicy ServiceInternalTrafficPolicy; ipFamilies IPFamily; "
        "ipFamilyPolicy IPFamilyPolicy; sessionAffinity ServiceAffinity; type ServiceType"
    ),
    "StatefulSetCondition": "status ConditionStatus; type StatefulSetConditionType",
    "StatefulSetPersistentVolumeClaimRetentionPolicy": (
        "whenDeleted PersistentVolumeClaimRetentionPolicyType; whenScaled PersistentVolumeClaimRetentionPolicyType"
    ),
    "StatefulSetSpec": "podManagementPolicy PodManagementPolicyType",
    "StatefulSetUpdateStrategy": "type StatefulSetUpdateStrategyType",
    "Status": "reason StatusReason",
    "StatusCause": "reason CauseType",
    "StatusDetails": "uid types.UID",
    "StorageClass": "reclaimPolicy PersistentVolumeReclaimPolicy; volumeBindingMode VolumeBindingMode",
    "StorageHealthCondition": (
        "accessMode PersistentVolumeAccessMode; status StorageHealthStatusType; volumeMode PersistentVolumeMode"
    ),
    "TableOptions": "includeObject IncludeObjectPolicy",
    "TableRowCondition": "status ConditionStatus; type RowConditionType",
    "Taint": "effect TaintEffect",
    "Toleration": "effect TaintEffect; operator TolerationOperator",
    "TopologySpreadConstraint": (
        "nodeAffinityPolicy NodeInclusionPolicy; nodeTaintsPolicy NodeInclusionPolicy; "
        "whenUnsatisfiable UnsatisfiableConstraintAction"
    ),
    "UncountedTerminatedPods": "failed types.UID; succeeded types.UID",
    "ValidatingAdmissionPolicyBindingSpec": "validationActions ValidationAction",
    "ValidatingAdmissionPolicySpec": "failurePolicy FailurePolicyType",
    "ValidatingWebhook": "failurePolicy FailurePolicyType; matchPolicy MatchPolicyType; sideEffects SideEffectClass",
    "Validation": "reason StatusReason",
    "ValidationRule": "reason FieldValueErrorReason",
    "VolumeHealthCondition": "status VolumeHealthStatusType",
    "VolumeMount": "mountPropagation MountPropagationMode; recursiveReadOnly RecursiveReadOnlyMode",
    "VolumeMountStatus": "recursiveReadOnly RecursiveReadOnlyMode",
}


@functools.cache
def go_name(owner: str, field: str) -> str:
    """Return the Go type of a text.

    Args:
        owner: Go type that has the field, such as `Container`.
        field: its name in JSON.

    """
    for row in _NAMES.get(owner, "").split("; "):
        name, _, found = row.partition(" ")
        if name == field:
            return found if "." in found else f"v1.{found}"
    return "string"
