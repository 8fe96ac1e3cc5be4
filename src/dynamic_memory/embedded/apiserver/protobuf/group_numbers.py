# SPDX-License-Identifier: Apache-2.0
"""Field numbers of the messages of meta/v1 and of the groups beside the core.

A line is a message: its name, then each field as `jsonName=number`, mark and type. Marks: `*` repeated, `%` map, `?` a
scalar that may be absent (so its zero counts), `!` a scalar that is written even if zero, `^` the fields of that
message stand in this one. Types: none a string, `i` integer, `b` boolean, `y` bytes, `q` Quantity, `x` IntOrString,
`t` Time, `u` MicroTime, `r` JSON in bytes, else the name of a message. Facts of k8s.io/api and k8s.io/apimachinery.
"""

from __future__ import annotations

__all__ = [
    "APPS",
    "AUTHENTICATION",
    "AUTHORIZATION",
    "AUTOSCALING_V1",
    "AUTOSCALING_V2",
    "BATCH",
    "COORDINATION",
    "EVENTS",
    "META",
    "NETWORKING",
    "POLICY",
    "RBAC",
    "SCHEDULING",
]

META = """\
Condition type=1! status=2! observedGeneration=3i lastTransitionTime=4t reason=5! message=6!
DeleteOptions gracePeriodSeconds=1?i preconditions=2Preconditions orphanDependents=3?b propagationPolicy=4? dryRun=5*
  ignoreStoreReadErrorWithClusterBreakingPotential=6?b
FieldSelectorRequirement key=1! operator=2! values=3*
LabelSelector matchLabels=1% matchExpressions=2*LabelSelectorRequirement
LabelSelectorRequirement key=1! operator=2! values=3*
ManagedFieldsEntry manager=1 operation=2 apiVersion=3 time=4t fieldsType=6 fieldsV1=7r subresource=8
ObjectMeta name=1 generateName=2 namespace=3 selfLink=4 uid=5 resourceVersion=6 generation=7i creationTimestamp=8t
  deletionTimestamp=9t deletionGracePeriodSeconds=10?i labels=11% annotations=12% ownerReferences=13*OwnerReference
  finalizers=14* managedFields=17*ManagedFieldsEntry
OwnerReference apiVersion=5! kind=1! name=3! uid=4! controller=6?b blockOwnerDeletion=7?b
Preconditions uid=1? resourceVersion=2?
"""

APPS = """\
DaemonSet metadata=1ObjectMeta spec=2DaemonSetSpec status=3DaemonSetStatus
DaemonSetCondition type=1! status=2! lastTransitionTime=3t reason=4 message=5
DaemonSetSpec selector=1LabelSelector template=2PodTemplateSpec updateStrategy=3DaemonSetUpdateStrategy
  minReadySeconds=4i revisionHistoryLimit=6?i
DaemonSetStatus currentNumberScheduled=1!i numberMisscheduled=2!i desiredNumberScheduled=3!i numberReady=4!i
  observedGeneration=5i updatedNumberScheduled=6i numberAvailable=7i numberUnavailable=8i collisionCount=9?i
  conditions=10*DaemonSetCondition
DaemonSetUpdateStrategy type=1 rollingUpdate=2RollingUpdateDaemonSet
Deployment metadata=1ObjectMeta spec=2DeploymentSpec status=3DeploymentStatus
DeploymentCondition type=1! status=2! lastUpdateTime=6t lastTransitionTime=7t reason=4 message=5
DeploymentSpec replicas=1?i selector=2LabelSelector template=3PodTemplateSpec strategy=4DeploymentStrategy
  minReadySeconds=5i revisionHistoryLimit=6?i paused=7b progressDeadlineSeconds=9?i
DeploymentStatus observedGeneration=1i replicas=2i updatedReplicas=3i readyReplicas=7i availableReplicas=4i
  unavailableReplicas=5i terminatingReplicas=9?i conditions=6*DeploymentCondition collisionCount=8?i
DeploymentStrategy type=1 rollingUpdate=2RollingUpdateDeployment
ReplicaSet metadata=1ObjectMeta spec=2ReplicaSetSpec status=3ReplicaSetStatus
ReplicaSetCondition type=1! status=2! lastTransitionTime=3t reason=4 message=5
ReplicaSetSpec replicas=1?i minReadySeconds=4i selector=2LabelSelector template=3PodTemplateSpec
ReplicaSetStatus replicas=1!i fullyLabeledReplicas=2i readyReplicas=4i availableReplicas=5i terminatingReplicas=7?i
  observedGeneration=3i conditions=6*ReplicaSetCondition
RollingUpdateDaemonSet maxUnavailable=1x maxSurge=2x
RollingUpdateDeployment maxUnavailable=1x maxSurge=2x
RollingUpdateStatefulSetStrategy partition=1?i maxUnavailable=2x
StatefulSet metadata=1ObjectMeta spec=2StatefulSetSpec status=3StatefulSetStatus
StatefulSetCondition type=1! status=2! lastTransitionTime=3t reason=4 message=5
StatefulSetOrdinals start=1!i
StatefulSetPersistentVolumeClaimRetentionPolicy whenDeleted=1 whenScaled=2
StatefulSetSpec replicas=1?i selector=2LabelSelector template=3PodTemplateSpec
  volumeClaimTemplates=4*PersistentVolumeClaim serviceName=5! podManagementPolicy=6
  updateStrategy=7StatefulSetUpdateStrategy revisionHistoryLimit=8?i minReadySeconds=9i
  persistentVolumeClaimRetentionPolicy=10StatefulSetPersistentVolumeClaimRetentionPolicy
  ordinals=11StatefulSetOrdinals
StatefulSetStatus observedGeneration=1i replicas=2!i readyReplicas=3i currentReplicas=4i updatedReplicas=5i
  currentRevision=6 updateRevision=7 collisionCount=9?i conditions=10*StatefulSetCondition availableReplicas=11!i
StatefulSetUpdateStrategy type=1 rollingUpdate=2RollingUpdateStatefulSetStrategy
"""

BATCH = """\
CronJob metadata=1ObjectMeta spec=2CronJobSpec status=3CronJobStatus
CronJobSpec schedule=1! timeZone=8? startingDeadlineSeconds=2?i concurrencyPolicy=3 suspend=4?b
  jobTemplate=5JobTemplateSpec successfulJobsHistoryLimit=6?i failedJobsHistoryLimit=7?i
CronJobStatus active=1*ObjectReference lastScheduleTime=4t lastSuccessfulTime=5t
Job metadata=1ObjectMeta spec=2JobSpec status=3JobStatus
JobCondition type=1! status=2! lastProbeTime=3t lastTransitionTime=4t reason=5 message=6
JobSpec parallelism=1?i completions=2?i activeDeadlineSeconds=3?i podFailurePolicy=11PodFailurePolicy
  successPolicy=16SuccessPolicy backoffLimit=7?i backoffLimitPerIndex=12?i maxFailedIndexes=13?i
  selector=4LabelSelector manualSelector=5?b template=6PodTemplateSpec ttlSecondsAfterFinished=8?i completionMode=9?
  suspend=10?b podReplacementPolicy=14? managedBy=15?
JobStatus conditions=1*JobCondition startTime=2t completionTime=3t active=4i succeeded=5i failed=6i terminating=11?i
  completedIndexes=7 failedIndexes=10? uncountedTerminatedPods=8UncountedTerminatedPods ready=9?i
JobTemplateSpec metadata=1ObjectMeta spec=2JobSpec
PodFailurePolicy rules=1*PodFailurePolicyRule
PodFailurePolicyOnExitCodesRequirement containerName=1? operator=2! values=3*i
PodFailurePolicyOnPodConditionsPattern type=1! status=2!
PodFailurePolicyRule action=1! onExitCodes=2PodFailurePolicyOnExitCodesRequirement
  onPodConditions=3*PodFailurePolicyOnPodConditionsPattern
SuccessPolicy rules=1*SuccessPolicyRule
SuccessPolicyRule succeededIndexes=1? succeededCount=2?i
UncountedTerminatedPods succeeded=1* failed=2*
"""

RBAC = """\
AggregationRule clusterRoleSelectors=1*LabelSelector
ClusterRole metadata=1ObjectMeta rules=2*PolicyRule aggregationRule=3AggregationRule
ClusterRoleBinding metadata=1ObjectMeta subjects=2*Subject roleRef=3RoleRef
PolicyRule verbs=1* apiGroups=2* resources=3* resourceNames=4* nonResourceURLs=5*
Role metadata=1ObjectMeta rules=2*PolicyRule
RoleBinding metadata=1ObjectMeta subjects=2*Subject roleRef=3RoleRef
RoleRef apiGroup=1! kind=2! name=3!
Subject kind=1! apiGroup=2 name=3! namespace=4
"""

POLICY = """\
Eviction metadata=1ObjectMeta deleteOptions=2DeleteOptions
PodDisruptionBudget metadata=1ObjectMeta spec=2PodDisruptionBudgetSpec status=3PodDisruptionBudgetStatus
PodDisruptionBudgetSpec minAvailable=1x selector=2LabelSelector maxUnavailable=3x unhealthyPodEvictionPolicy=4?
PodDisruptionBudgetStatus observedGeneration=1i disruptedPods=2%t disruptionsAllowed=3!i currentHealthy=4!i
  desiredHealthy=5!i expectedPods=6!i conditions=7*Condition
"""

AUTOSCALING_V1 = """\
CrossVersionObjectReference kind=1! name=2! apiVersion=3
HorizontalPodAutoscaler metadata=1ObjectMeta spec=2HorizontalPodAutoscalerSpec status=3HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerSpec scaleTargetRef=1CrossVersionObjectReference minReplicas=2?i maxReplicas=3!i
  targetCPUUtilizationPercentage=4?i
HorizontalPodAutoscalerStatus observedGeneration=1?i lastScaleTime=2t currentReplicas=3!i desiredReplicas=4!i
  currentCPUUtilizationPercentage=5?i
Scale metadata=1ObjectMeta spec=2ScaleSpec status=3ScaleStatus
ScaleSpec replicas=1i
ScaleStatus replicas=1!i selector=2
"""

AUTOSCALING_V2 = """\
ContainerResourceMetricSource name=1! target=2MetricTarget container=3!
ContainerResourceMetricStatus name=1! current=2MetricValueStatus container=3!
CrossVersionObjectReference kind=1! name=2! apiVersion=3
ExternalMetricSource metric=1MetricIdentifier target=2MetricTarget
ExternalMetricStatus metric=1MetricIdentifier current=2MetricValueStatus
HPAScalingPolicy type=1! value=2!i periodSeconds=3!i
HPAScalingRules stabilizationWindowSeconds=3?i selectPolicy=1? policies=2*HPAScalingPolicy tolerance=4q
HorizontalPodAutoscaler metadata=1ObjectMeta spec=2HorizontalPodAutoscalerSpec status=3HorizontalPodAutoscalerStatus
HorizontalPodAutoscalerBehavior scaleUp=1HPAScalingRules scaleDown=2HPAScalingRules
HorizontalPodAutoscalerCondition type=1! status=2! lastTransitionTime=3t reason=4 message=5
HorizontalPodAutoscalerSpec scaleTargetRef=1CrossVersionObjectReference minReplicas=2?i maxReplicas=3!i
  metrics=4*MetricSpec behavior=5HorizontalPodAutoscalerBehavior
HorizontalPodAutoscalerStatus observedGeneration=1?i lastScaleTime=2t currentReplicas=3i desiredReplicas=4!i
  currentMetrics=5*MetricStatus conditions=6*HorizontalPodAutoscalerCondition
MetricIdentifier name=1! selector=2LabelSelector
MetricSpec type=1! object=2ObjectMetricSource pods=3PodsMetricSource resource=4ResourceMetricSource
  containerResource=7ContainerResourceMetricSource external=5ExternalMetricSource
MetricStatus type=1! object=2ObjectMetricStatus pods=3PodsMetricStatus resource=4ResourceMetricStatus
  containerResource=7ContainerResourceMetricStatus external=5ExternalMetricStatus
MetricTarget type=1! value=2q averageValue=3q averageUtilization=4?i
MetricValueStatus value=1q averageValue=2q averageUtilization=3?i
ObjectMetricSource describedObject=1CrossVersionObjectReference target=2MetricTarget metric=3MetricIdentifier
ObjectMetricStatus metric=1MetricIdentifier current=2MetricValueStatus describedObject=3CrossVersionObjectReference
PodsMetricSource metric=1MetricIdentifier target=2MetricTarget
PodsMetricStatus metric=1MetricIdentifier current=2MetricValueStatus
ResourceMetricSource name=1! target=2MetricTarget
ResourceMetricStatus name=1! current=2MetricValueStatus
"""

AUTHORIZATION = """\
ExtraValue items=1*
FieldSelectorAttributes rawSelector=1 requirements=2*FieldSelectorRequirement
LabelSelectorAttributes rawSelector=1 requirements=2*LabelSelectorRequirement
LocalSubjectAccessReview metadata=1ObjectMeta spec=2SubjectAccessReviewSpec status=3SubjectAccessReviewStatus
NonResourceAttributes path=1 verb=2
NonResourceRule verbs=1* nonResourceURLs=2*
ResourceAttributes namespace=1 verb=2 group=3 version=4 resource=5 subresource=6 name=7
  fieldSelector=8FieldSelectorAttributes labelSelector=9LabelSelectorAttributes
ResourceRule verbs=1* apiGroups=2* resources=3* resourceNames=4*
SelfSubjectAccessReview metadata=1ObjectMeta spec=2SelfSubjectAccessReviewSpec status=3SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec resourceAttributes=1ResourceAttributes nonResourceAttributes=2NonResourceAttributes
SelfSubjectRulesReview metadata=1ObjectMeta spec=2SelfSubjectRulesReviewSpec status=3SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec namespace=1
SubjectAccessReview metadata=1ObjectMeta spec=2SubjectAccessReviewSpec status=3SubjectAccessReviewStatus
SubjectAccessReviewSpec resourceAttributes=1ResourceAttributes nonResourceAttributes=2NonResourceAttributes user=3
  groups=4* extra=5%ExtraValue uid=6
SubjectAccessReviewStatus allowed=1!b denied=4b reason=2 evaluationError=3
SubjectRulesReviewStatus resourceRules=1*ResourceRule nonResourceRules=2*NonResourceRule incomplete=3!b
  evaluationError=4
"""

AUTHENTICATION = """\
BoundObjectReference kind=1 apiVersion=2 name=3 uid=4
ExtraValue items=1*
SelfSubjectReview metadata=1ObjectMeta status=2SelfSubjectReviewStatus
SelfSubjectReviewStatus userInfo=1UserInfo
TokenRequest metadata=1ObjectMeta spec=2TokenRequestSpec status=3TokenRequestStatus
TokenRequestSpec audiences=1* expirationSeconds=4?i boundObjectRef=3BoundObjectReference
TokenRequestStatus token=1! expirationTimestamp=2t
TokenReview metadata=1ObjectMeta spec=2TokenReviewSpec status=3TokenReviewStatus
TokenReviewSpec token=1 audiences=2*
TokenReviewStatus authenticated=1b user=2UserInfo audiences=4* error=3
UserInfo username=1 uid=2 groups=3* extra=4%ExtraValue
"""

COORDINATION = """\
Lease metadata=1ObjectMeta spec=2LeaseSpec
LeaseSpec holderIdentity=1? leaseDurationSeconds=2?i acquireTime=3u renewTime=4u leaseTransitions=5?i strategy=6?
  preferredHolder=7?
"""

EVENTS = """\
Event metadata=1ObjectMeta eventTime=2u series=3EventSeries reportingController=4 reportingInstance=5 action=6
  reason=7 regarding=8ObjectReference related=9ObjectReference note=10 type=11 deprecatedSource=12EventSource
  deprecatedFirstTimestamp=13t deprecatedLastTimestamp=14t deprecatedCount=15i
EventSeries count=1!i lastObservedTime=2u
"""

NETWORKING = """\
HTTPIngressPath path=1 pathType=3? backend=2IngressBackend
HTTPIngressRuleValue paths=1*HTTPIngressPath
Ingress metadata=1ObjectMeta spec=2IngressSpec status=3IngressStatus
IngressBackend service=4IngressServiceBackend resource=3TypedLocalObjectReference
IngressLoadBalancerIngress ip=1 hostname=2 ports=4*IngressPortStatus
IngressLoadBalancerStatus ingress=1*IngressLoadBalancerIngress
IngressPortStatus port=1!i protocol=2! error=3?
IngressRule host=1 =2^IngressRuleValue
IngressRuleValue http=1HTTPIngressRuleValue
IngressServiceBackend name=1! port=2ServiceBackendPort
IngressSpec ingressClassName=4? defaultBackend=1IngressBackend tls=2*IngressTLS rules=3*IngressRule
IngressStatus loadBalancer=1IngressLoadBalancerStatus
IngressTLS hosts=1* secretName=2
ServiceBackendPort name=1 number=2i
"""

SCHEDULING = """\
PriorityClass metadata=1ObjectMeta value=2!i globalDefault=3b description=4 preemptionPolicy=5?
"""
