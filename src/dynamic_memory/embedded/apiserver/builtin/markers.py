# SPDX-License-Identifier: Apache-2.0
"""What the models do not say of builtin types: how lists merge, what maps hold, how wide integers are.

One row a type: `atomic` alone is for the type as a whole, every other entry is a field with its marks: `map:KEYS` and
`set` (list type), `key:NAME` and `patch:STRATEGY` (strategic merge), `atomic` (map type), `of:TYPE` (values of a map),
`int64`, `double`, `byte` (formats). A list without a mark is atomic, a map granular, an integer int32. Source: the
OpenAPI document of Kubernetes 1.37.
"""

from __future__ import annotations

from typing import Final

__all__ = ["MARKERS"]

MARKERS: Final[dict[str, str]] = {
    "admissionregistration_v1.MatchResources": "atomic",
    "admissionregistration_v1.MutatingAdmissionPolicySpec": "matchConditions map:name key:name patch:merge",
    "admissionregistration_v1.MutatingWebhook": "matchConditions map:name key:name patch:merge",
    "admissionregistration_v1.MutatingWebhookConfiguration": "webhooks map:name key:name patch:merge",
    "admissionregistration_v1.NamedRuleWithOperations": "atomic",
    "admissionregistration_v1.ParamKind": "atomic",
    "admissionregistration_v1.ParamRef": "atomic",
    "admissionregistration_v1.ValidatingAdmissionPolicyBindingSpec": "validationActions set",
    "admissionregistration_v1.ValidatingAdmissionPolicySpec": (
        "matchConditions map:name key:name patch:merge; variables map:name key:name patch:merge"
    ),
    "admissionregistration_v1.ValidatingAdmissionPolicyStatus": "conditions map:type; observedGeneration int64",
    "admissionregistration_v1.ValidatingWebhook": "matchConditions map:name key:name patch:merge",
    "admissionregistration_v1.ValidatingWebhookConfiguration": "webhooks map:name key:name patch:merge",
    "admissionregistration_v1.Variable": "atomic",
    "admissionregistration_v1.WebhookClientConfig": "caBundle byte",
    "apiextensions_v1.CustomResourceDefinitionCondition": "observedGeneration int64",
    "apiextensions_v1.CustomResourceDefinitionStatus": "conditions map:type; observedGeneration int64",
    "apiextensions_v1.JSONSchemaProps": (
        "definitions of:JSONSchemaProps; dependencies of:JSONSchemaPropsOrStringArray; maxItems int64; "
        "maxLength int64; maxProperties int64; maximum double; minItems int64; minLength int64; "
        "minProperties int64; minimum double; multipleOf double; patternProperties of:JSONSchemaProps; "
        "properties of:JSONSchemaProps; x-kubernetes-validations map:rule key:rule patch:merge"
    ),
    "apiextensions_v1.WebhookClientConfig": "caBundle byte",
    "apps_v1.ControllerRevision": "revision int64",
    "apps_v1.DaemonSetStatus": "conditions map:type key:type patch:merge; observedGeneration int64",
    "apps_v1.DeploymentSpec": "strategy patch:retainKeys",
    "apps_v1.DeploymentStatus": "conditions map:type key:type patch:merge; observedGeneration int64",
    "apps_v1.ReplicaSetStatus": "conditions map:type key:type patch:merge; observedGeneration int64",
    "apps_v1.StatefulSetStatus": "conditions map:type key:type patch:merge; observedGeneration int64",
    "authentication_v1.TokenRequestSpec": "attestations of:strings; expirationSeconds int64",
    "authentication_v1.UserInfo": "extra of:strings",
    "authorization_v1.SubjectAccessReviewSpec": "extra of:strings",
    "autoscaling_v1.CrossVersionObjectReference": "atomic",
    "autoscaling_v1.HorizontalPodAutoscalerStatus": "observedGeneration int64",
    "autoscaling_v2.HorizontalPodAutoscalerCondition": "observedGeneration int64",
    "autoscaling_v2.HorizontalPodAutoscalerStatus": (
        "conditions map:type key:type patch:merge; observedGeneration int64"
    ),
    "batch_v1.CronJobSpec": "startingDeadlineSeconds int64",
    "batch_v1.JobSchedulingConfiguration": "resourceClaims map:name key:name patch:merge",
    "batch_v1.JobSpec": "activeDeadlineSeconds int64",
    "batch_v1.JobStatus": "conditions key:type patch:merge",
    "batch_v1.PodFailurePolicyOnExitCodesRequirement": "values set",
    "batch_v1.UncountedTerminatedPods": "failed set; succeeded set",
    "certificates_v1.CertificateSigningRequestSpec": "request byte; extra of:strings",
    "certificates_v1.CertificateSigningRequestStatus": "certificate byte; conditions map:type",
    "certificates_v1.PodCertificateRequestSpec": ("stubPKCS10Request byte; unverifiedUserAnnotations of:string"),
    "certificates_v1.PodCertificateRequestStatus": "conditions map:type key:type patch:merge",
    "core_v1.CSIPersistentVolumeSource": "volumeAttributes of:string",
    "core_v1.CSIVolumeSource": "volumeAttributes of:string",
    "core_v1.ClusterTrustBundleProjection": "user int64",
    "core_v1.ComponentStatus": "conditions map:type key:type patch:merge",
    "core_v1.ConfigMap": "binaryData of:byte; data of:string",
    "core_v1.ConfigMapKeySelector": "atomic",
    "core_v1.ConfigMapVolumeSource": "defaultUser int64",
    "core_v1.Container": (
        "env map:name key:name patch:merge; ports map:containerPort,protocol key:containerPort patch:merge; "
        "volumeDevices map:devicePath key:devicePath patch:merge; "
        "volumeMounts map:mountPath key:mountPath patch:merge"
    ),
    "core_v1.ContainerImage": "sizeBytes int64",
    "core_v1.ContainerRestartRuleOnExitCodes": "values set",
    "core_v1.ContainerStatus": (
        "allocatedResources of:Quantity; allocatedResourcesStatus map:name key:name patch:merge; "
        "volumeMounts map:mountPath key:mountPath patch:merge"
    ),
    "core_v1.DownwardAPIVolumeFile": "user int64",
    "core_v1.DownwardAPIVolumeSource": "defaultUser int64",
    "core_v1.EndpointAddress": "atomic",
    "core_v1.EndpointPort": "atomic",
    "core_v1.EphemeralContainer": (
        "env map:name key:name patch:merge; ports map:containerPort,protocol key:containerPort patch:merge; "
        "volumeDevices map:devicePath key:devicePath patch:merge; "
        "volumeMounts map:mountPath key:mountPath patch:merge"
    ),
    "core_v1.EvictionResponder": "atomic",
    "core_v1.FileKeySelector": "atomic",
    "core_v1.FlexPersistentVolumeSource": "options of:string",
    "core_v1.FlexVolumeSource": "options of:string",
    "core_v1.KeyToPath": "user int64",
    "core_v1.LimitRangeItem": (
        "default of:Quantity; defaultRequest of:Quantity; max of:Quantity; maxLimitRequestRatio of:Quantity; "
        "min of:Quantity"
    ),
    "core_v1.LinuxContainerUser": "gid int64; uid int64; supplementalGroups int64",
    "core_v1.LocalObjectReference": "atomic",
    "core_v1.NamespaceStatus": "conditions map:type key:type patch:merge",
    "core_v1.NodeAllocatableResourceClaimStatus": (
        "containers set; mapping map:name key:name patch:merge; overhead map:name key:name patch:merge"
    ),
    "core_v1.NodePodPreemptionPolicy": "disableResizePreemption set",
    "core_v1.NodeSelector": "atomic",
    "core_v1.NodeSelectorTerm": "atomic",
    "core_v1.NodeSpec": "podCIDRs set patch:merge",
    "core_v1.NodeStatus": (
        "addresses map:type key:type patch:merge; allocatable of:Quantity; capacity of:Quantity; "
        "conditions map:type key:type patch:merge"
    ),
    "core_v1.NodeSwapStatus": "capacity int64",
    "core_v1.ObjectFieldSelector": "atomic",
    "core_v1.ObjectReference": "atomic",
    "core_v1.PersistentVolumeClaimStatus": (
        "allocatedResourceStatuses of:string; allocatedResources of:Quantity; capacity of:Quantity; "
        "conditions map:type key:type patch:merge"
    ),
    "core_v1.PersistentVolumeSpec": "capacity of:Quantity",
    "core_v1.PodCertificateProjection": "user int64; userAnnotations of:string",
    "core_v1.PodCondition": "observedGeneration int64",
    "core_v1.PodSecurityContext": "fsGroup int64; runAsGroup int64; runAsUser int64; supplementalGroups int64",
    "core_v1.PodSpec": (
        "containers map:name key:name patch:merge; activeDeadlineSeconds int64; "
        "ephemeralContainers map:name key:name patch:merge; "
        "evictionResponders map:name key:name patch:merge; hostAliases map:ip key:ip patch:merge; "
        "imagePullSecrets map:name key:name patch:merge; initContainers map:name key:name patch:merge; "
        "nodeSelector atomic of:string; overhead of:Quantity; "
        "resourceClaims map:name key:name patch:merge,retainKeys; "
        "schedulingGates map:name key:name patch:merge; terminationGracePeriodSeconds int64; "
        "topologySpreadConstraints map:topologyKey,whenUnsatisfiable key:topologyKey patch:merge; "
        "volumes map:name key:name patch:merge,retainKeys"
    ),
    "core_v1.PodStatus": (
        "allocatedResources of:Quantity; conditions map:type key:type patch:merge; "
        "hostIPs key:ip patch:merge; "
        "nodeAllocatableResourceClaimStatuses map:resourceClaimName key:resourceClaimName patch:merge; "
        "observedGeneration int64; podIPs map:ip key:ip patch:merge; "
        "resourceClaimStatuses map:name key:name patch:merge,retainKeys; volumeHealth map:name"
    ),
    "core_v1.PodVolumeHealth": "healthConditions map:status,reason key:status patch:merge",
    "core_v1.Probe": "terminationGracePeriodSeconds int64",
    "core_v1.ProjectedVolumeSource": "defaultUser int64",
    "core_v1.ReplicationControllerSpec": "selector atomic of:string",
    "core_v1.ReplicationControllerStatus": "conditions map:type key:type patch:merge; observedGeneration int64",
    "core_v1.ResourceFieldSelector": "atomic",
    "core_v1.ResourceQuotaSpec": "hard of:Quantity",
    "core_v1.ResourceQuotaStatus": "hard of:Quantity; used of:Quantity",
    "core_v1.ResourceRequirements": "claims map:name; limits of:Quantity; requests of:Quantity",
    "core_v1.ResourceStatus": "resources map:resourceID",
    "core_v1.ScopeSelector": "atomic",
    "core_v1.Secret": "data of:byte; stringData of:string",
    "core_v1.SecretKeySelector": "atomic",
    "core_v1.SecretReference": "atomic",
    "core_v1.SecretVolumeSource": "defaultUser int64",
    "core_v1.SecurityContext": "runAsGroup int64; runAsUser int64",
    "core_v1.ServiceAccount": "secrets map:name key:name patch:merge",
    "core_v1.ServiceAccountTokenProjection": "expirationSeconds int64; user int64",
    "core_v1.ServiceSpec": "ports map:port,protocol key:port patch:merge; selector atomic of:string",
    "core_v1.ServiceStatus": "conditions map:type key:type patch:merge",
    "core_v1.SleepAction": "seconds int64",
    "core_v1.Toleration": "tolerationSeconds int64",
    "core_v1.TopologySelectorTerm": "atomic",
    "core_v1.TypedLocalObjectReference": "atomic",
    "core_v1.VolumeHealthStatus": "healthConditions map:status,reason key:status patch:merge",
    "core_v1.VolumeMount": "bindMountOptions set",
    "core_v1.VolumeResourceRequirements": "limits of:Quantity; requests of:Quantity",
    "discovery_v1.Endpoint": "addresses set; deprecatedTopology of:string",
    "discovery_v1.EndpointPort": "atomic",
    "meta_v1.Condition": "observedGeneration int64",
    "meta_v1.DeleteOptions": "gracePeriodSeconds int64",
    "meta_v1.LabelSelector": "atomic; matchLabels of:string",
    "meta_v1.ListMeta": "remainingItemCount int64",
    "meta_v1.ObjectMeta": (
        "annotations of:string; deletionGracePeriodSeconds int64; finalizers set patch:merge; "
        "generation int64; labels of:string; ownerReferences map:uid key:uid patch:merge"
    ),
    "meta_v1.OwnerReference": "atomic",
    "networking_v1.ServiceBackendPort": "atomic",
    "networking_v1.ServiceCIDRStatus": "conditions map:type key:type patch:merge",
    "node_v1.Overhead": "podFixed of:Quantity",
    "node_v1.Scheduling": "nodeSelector atomic of:string",
    "policy_v1.PodDisruptionBudgetSpec": "selector patch:replace",
    "policy_v1.PodDisruptionBudgetStatus": (
        "conditions map:type key:type patch:merge; disruptedPods of:Time; observedGeneration int64"
    ),
    "rbac_v1.RoleRef": "atomic",
    "rbac_v1.Subject": "atomic",
    "resource_v1.AllocatedDeviceStatus": "conditions map:type",
    "resource_v1.CapacityRequirements": "requests of:Quantity",
    "resource_v1.CounterSet": "counters of:Counter",
    "resource_v1.Device": (
        "attributes of:DeviceAttribute; capacity of:DeviceCapacity; nodeAllocatableResources of:NodeAllocatableResource"
    ),
    "resource_v1.DeviceAttribute": "int int64; ints int64",
    "resource_v1.DeviceCounterConsumption": "counters of:Counter",
    "resource_v1.DeviceRequestAllocationResult": "consumedCapacity of:Quantity; skipNodeOperations set",
    "resource_v1.DeviceSubRequest": "count int64",
    "resource_v1.DeviceTaintRuleStatus": "conditions map:type key:type patch:merge",
    "resource_v1.DeviceToleration": "tolerationSeconds int64",
    "resource_v1.ExactDeviceRequest": "count int64",
    "resource_v1.ResourceClaimStatus": (
        "devices map:driver,device,pool,shareID; reservedFor map:uid key:uid patch:merge"
    ),
    "resource_v1.ResourcePool": "generation int64; resourceSliceCount int64",
    "resource_v1.ResourceSliceSpec": "skipNodeOperations set",
    "resource_v1beta1.AllocatedDeviceStatus": "conditions map:type",
    "resource_v1beta1.BasicDevice": (
        "attributes of:DeviceAttribute; capacity of:DeviceCapacity; nodeAllocatableResources of:NodeAllocatableResource"
    ),
    "resource_v1beta1.CapacityRequirements": "requests of:Quantity",
    "resource_v1beta1.CounterSet": "counters of:Counter",
    "resource_v1beta1.DeviceAttribute": "int int64; ints int64",
    "resource_v1beta1.DeviceCounterConsumption": "counters of:Counter",
    "resource_v1beta1.DeviceRequest": "count int64",
    "resource_v1beta1.DeviceRequestAllocationResult": "consumedCapacity of:Quantity; skipNodeOperations set",
    "resource_v1beta1.DeviceSubRequest": "count int64",
    "resource_v1beta1.DeviceToleration": "tolerationSeconds int64",
    "resource_v1beta1.ResourceClaimStatus": (
        "devices map:driver,device,pool,shareID; reservedFor map:uid key:uid patch:merge"
    ),
    "resource_v1beta1.ResourcePool": "generation int64; resourceSliceCount int64",
    "resource_v1beta1.ResourceSliceSpec": "skipNodeOperations set",
    "resource_v1beta2.AllocatedDeviceStatus": "conditions map:type",
    "resource_v1beta2.CapacityRequirements": "requests of:Quantity",
    "resource_v1beta2.CounterSet": "counters of:Counter",
    "resource_v1beta2.Device": (
        "attributes of:DeviceAttribute; capacity of:DeviceCapacity; nodeAllocatableResources of:NodeAllocatableResource"
    ),
    "resource_v1beta2.DeviceAttribute": "int int64; ints int64",
    "resource_v1beta2.DeviceCounterConsumption": "counters of:Counter",
    "resource_v1beta2.DeviceRequestAllocationResult": "consumedCapacity of:Quantity; skipNodeOperations set",
    "resource_v1beta2.DeviceSubRequest": "count int64",
    "resource_v1beta2.DeviceTaintRuleStatus": "conditions map:type key:type patch:merge",
    "resource_v1beta2.DeviceToleration": "tolerationSeconds int64",
    "resource_v1beta2.ExactDeviceRequest": "count int64",
    "resource_v1beta2.ResourceClaimStatus": (
        "devices map:driver,device,pool,shareID; reservedFor map:uid key:uid patch:merge"
    ),
    "resource_v1beta2.ResourcePool": "generation int64; resourceSliceCount int64",
    "resource_v1beta2.ResourceSliceSpec": "skipNodeOperations set",
    "storage_v1.CSIDriverSpec": "nodeAllocatableUpdatePeriodSeconds int64; volumeLifecycleModes set",
    "storage_v1.CSINodeSpec": "drivers map:name key:name patch:merge",
    "storage_v1.CSINodeStatus": "storageHealth map:name key:name patch:merge",
    "storage_v1.StorageClass": "parameters of:string",
    "storage_v1.TokenRequest": "expirationSeconds int64",
    "storage_v1.VolumeAttachmentStatus": "attachmentMetadata of:string",
    "storage_v1.VolumeAttributesClass": "parameters of:string",
}
