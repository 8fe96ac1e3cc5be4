# SPDX-License-Identifier: Apache-2.0
"""Field numbers of the messages of core/v1.

A line is a message: its name, then each field as `jsonName=number`, mark and type. Marks: `*` repeated, `%` map, `?` a
scalar that may be absent (so its zero counts), `!` a scalar that is written even if zero, `^` the fields of that
message stand in this one. Types: none a string, `i` integer, `b` boolean, `y` bytes, `q` Quantity, `x` IntOrString,
`t` Time, `u` MicroTime, `r` JSON in bytes, else the name of a message. Facts of k8s.io/api and k8s.io/apimachinery.
"""

from __future__ import annotations

__all__ = ["CORE"]

CORE = """\
AWSElasticBlockStoreVolumeSource volumeID=1! fsType=2 partition=3i readOnly=4b
Affinity nodeAffinity=1NodeAffinity podAffinity=2PodAffinity podAntiAffinity=3PodAntiAffinity
AppArmorProfile type=1! localhostProfile=2?
AzureDiskVolumeSource diskName=1! diskURI=2! cachingMode=3? fsType=4? readOnly=5?b kind=6?
AzureFileVolumeSource secretName=1! shareName=2! readOnly=3b
Binding metadata=1ObjectMeta target=2ObjectReference
CSIVolumeSource driver=1! readOnly=2?b fsType=3? volumeAttributes=4% nodePublishSecretRef=5LocalObjectReference
Capabilities add=1* drop=2*
CephFSVolumeSource monitors=1* path=2 user=3 secretFile=4 secretRef=5LocalObjectReference readOnly=6b
CinderVolumeSource volumeID=1! fsType=2 readOnly=3b secretRef=4LocalObjectReference
ClientIPConfig timeoutSeconds=1?i
ClusterTrustBundleProjection name=1? signerName=2? labelSelector=3LabelSelector optional=5?b path=4!
ConfigMap metadata=1ObjectMeta immutable=4?b data=2% binaryData=3%y
ConfigMapEnvSource =1^LocalObjectReference optional=2?b
ConfigMapKeySelector =1^LocalObjectReference key=2! optional=3?b
ConfigMapProjection =1^LocalObjectReference items=2*KeyToPath optional=4?b
ConfigMapVolumeSource =1^LocalObjectReference items=2*KeyToPath defaultMode=3?i optional=4?b
Container name=1! image=2 command=3* args=4* workingDir=5 ports=6*ContainerPort envFrom=19*EnvFromSource env=7*EnvVar
  resources=8ResourceRequirements resizePolicy=23*ContainerResizePolicy restartPolicy=24?
  restartPolicyRules=25*ContainerRestartRule volumeMounts=9*VolumeMount volumeDevices=21*VolumeDevice
  livenessProbe=10Probe readinessProbe=11Probe startupProbe=22Probe lifecycle=12Lifecycle terminationMessagePath=13
  terminationMessagePolicy=20 imagePullPolicy=14 securityContext=15SecurityContext stdin=16b stdinOnce=17b tty=18b
ContainerExtendedResourceRequest containerName=1! resourceName=2! requestName=3!
ContainerPort name=1 hostPort=2i containerPort=3!i protocol=4 hostIP=5
ContainerResizePolicy resourceName=1! restartPolicy=2!
ContainerRestartRule action=1 exitCodes=2ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes operator=1 values=2*i
ContainerState waiting=1ContainerStateWaiting running=2ContainerStateRunning terminated=3ContainerStateTerminated
ContainerStateRunning startedAt=1t
ContainerStateTerminated exitCode=1!i signal=2i reason=3 message=4 startedAt=5t finishedAt=6t containerID=7
ContainerStateWaiting reason=1 message=2
ContainerStatus name=1! state=2ContainerState lastState=3ContainerState ready=4!b restartCount=5!i image=6! imageID=7!
  containerID=8 started=9?b allocatedResources=10%q resources=11ResourceRequirements volumeMounts=12*VolumeMountStatus
  user=13ContainerUser allocatedResourcesStatus=14*ResourceStatus stopSignal=15?
ContainerUser linux=1LinuxContainerUser
DownwardAPIProjection items=1*DownwardAPIVolumeFile
DownwardAPIVolumeFile path=1! fieldRef=2ObjectFieldSelector resourceFieldRef=3ResourceFieldSelector mode=4?i
DownwardAPIVolumeSource items=1*DownwardAPIVolumeFile defaultMode=2?i
EmptyDirVolumeSource medium=1 sizeLimit=2q
EnvFromSource prefix=1 configMapRef=2ConfigMapEnvSource secretRef=3SecretEnvSource
EnvVar name=1! value=2 valueFrom=3EnvVarSource
EnvVarSource fieldRef=1ObjectFieldSelector resourceFieldRef=2ResourceFieldSelector
  configMapKeyRef=3ConfigMapKeySelector secretKeyRef=4SecretKeySelector fileKeyRef=5FileKeySelector
EphemeralContainer =1^EphemeralContainerCommon targetContainerName=2
EphemeralContainerCommon name=1! image=2 command=3* args=4* workingDir=5 ports=6*ContainerPort
  envFrom=19*EnvFromSource env=7*EnvVar resources=8ResourceRequirements resizePolicy=23*ContainerResizePolicy
  restartPolicy=24? restartPolicyRules=25*ContainerRestartRule volumeMounts=9*VolumeMount
  volumeDevices=21*VolumeDevice livenessProbe=10Probe readinessProbe=11Probe startupProbe=22Probe
  lifecycle=12Lifecycle terminationMessagePath=13 terminationMessagePolicy=20 imagePullPolicy=14
  securityContext=15SecurityContext stdin=16b stdinOnce=17b tty=18b
EphemeralVolumeSource volumeClaimTemplate=1PersistentVolumeClaimTemplate
Event metadata=1ObjectMeta involvedObject=2ObjectReference reason=3 message=4 source=5EventSource firstTimestamp=6t
  lastTimestamp=7t count=8i type=9 eventTime=10u series=11EventSeries action=12 related=13ObjectReference
  reportingComponent=14! reportingInstance=15!
EventSeries count=1i lastObservedTime=2u
EventSource component=1 host=2
ExecAction command=1*
FCVolumeSource targetWWNs=1* lun=2?i fsType=3 readOnly=4b wwids=5*
FileKeySelector volumeName=1! path=2! key=3! optional=4?b
FlexVolumeSource driver=1! fsType=2 secretRef=3LocalObjectReference readOnly=4b options=5%
FlockerVolumeSource datasetName=1 datasetUUID=2
GCEPersistentDiskVolumeSource pdName=1! fsType=2 partition=3i readOnly=4b
GRPCAction port=1!i service=2?
GitRepoVolumeSource repository=1! revision=2 directory=3
GlusterfsVolumeSource endpoints=1! path=2! readOnly=3b
HTTPGetAction path=1 port=2x host=3 scheme=4 httpHeaders=5*HTTPHeader
HTTPHeader name=1! value=2!
HostAlias ip=1! hostnames=2*
HostIP ip=1!
HostPathVolumeSource path=1! type=2?
ISCSIVolumeSource targetPortal=1! iqn=2! lun=3!i iscsiInterface=4 fsType=5 readOnly=6b portals=7* chapAuthDiscovery=8b
  chapAuthSession=11b secretRef=10LocalObjectReference initiatorName=12?
ImageVolumeSource reference=1 pullPolicy=2
ImageVolumeStatus imageRef=1
KeyToPath key=1! path=2! mode=3?i
Lifecycle postStart=1LifecycleHandler preStop=2LifecycleHandler stopSignal=3?
LifecycleHandler exec=1ExecAction httpGet=2HTTPGetAction tcpSocket=3TCPSocketAction sleep=4SleepAction
LinuxContainerUser uid=1!i gid=2!i supplementalGroups=3*i
LoadBalancerIngress ip=1 hostname=2 ipMode=3? ports=4*PortStatus
LoadBalancerStatus ingress=1*LoadBalancerIngress
LocalObjectReference name=1
ModifyVolumeStatus targetVolumeAttributesClassName=1 status=2!
NFSVolumeSource server=1! path=2! readOnly=3b
Namespace metadata=1ObjectMeta spec=2NamespaceSpec status=3NamespaceStatus
NamespaceCondition type=1! status=2! lastTransitionTime=4t reason=5 message=6
NamespaceSpec finalizers=1*
NamespaceStatus phase=1 conditions=2*NamespaceCondition
NodeAffinity requiredDuringSchedulingIgnoredDuringExecution=1NodeSelector
  preferredDuringSchedulingIgnoredDuringExecution=2*PreferredSchedulingTerm
NodeAllocatableResourceClaimStatus resourceClaimName=1! containers=2* resources=3%q
NodeSelector nodeSelectorTerms=1*NodeSelectorTerm
NodeSelectorRequirement key=1! operator=2! values=3*
NodeSelectorTerm matchExpressions=1*NodeSelectorRequirement matchFields=2*NodeSelectorRequirement
ObjectFieldSelector apiVersion=1 fieldPath=2!
ObjectReference kind=1 namespace=2 name=3 uid=4 apiVersion=5 resourceVersion=6 fieldPath=7
PersistentVolumeClaim metadata=1ObjectMeta spec=2PersistentVolumeClaimSpec status=3PersistentVolumeClaimStatus
PersistentVolumeClaimCondition type=1! status=2! lastProbeTime=3t lastTransitionTime=4t reason=5 message=6
PersistentVolumeClaimSpec accessModes=1* selector=4LabelSelector resources=2VolumeResourceRequirements volumeName=3
  storageClassName=5? volumeMode=6? dataSource=7TypedLocalObjectReference dataSourceRef=8TypedObjectReference
  volumeAttributesClassName=9?
PersistentVolumeClaimStatus phase=1 accessModes=2* capacity=3%q conditions=4*PersistentVolumeClaimCondition
  allocatedResources=5%q allocatedResourceStatuses=7% currentVolumeAttributesClassName=8?
  modifyVolumeStatus=9ModifyVolumeStatus
PersistentVolumeClaimTemplate metadata=1ObjectMeta spec=2PersistentVolumeClaimSpec
PersistentVolumeClaimVolumeSource claimName=1! readOnly=2b
PhotonPersistentDiskVolumeSource pdID=1! fsType=2
Pod metadata=1ObjectMeta spec=2PodSpec status=3PodStatus
PodAffinity requiredDuringSchedulingIgnoredDuringExecution=1*PodAffinityTerm
  preferredDuringSchedulingIgnoredDuringExecution=2*WeightedPodAffinityTerm
PodAffinityTerm labelSelector=1LabelSelector namespaces=2* topologyKey=3! namespaceSelector=4LabelSelector
  matchLabelKeys=5* mismatchLabelKeys=6*
PodAntiAffinity requiredDuringSchedulingIgnoredDuringExecution=1*PodAffinityTerm
  preferredDuringSchedulingIgnoredDuringExecution=2*WeightedPodAffinityTerm
PodCertificateProjection signerName=1 keyType=2 maxExpirationSeconds=3?i credentialBundlePath=4 keyPath=5
  certificateChainPath=6 userAnnotations=7%
PodCondition type=1! observedGeneration=7i status=2! lastProbeTime=3t lastTransitionTime=4t reason=5 message=6
PodDNSConfig nameservers=1* searches=2* options=3*PodDNSConfigOption
PodDNSConfigOption name=1 value=2?
PodExtendedResourceClaimStatus requestMappings=1*ContainerExtendedResourceRequest resourceClaimName=2!
PodIP ip=1!
PodOS name=1!
PodReadinessGate conditionType=1!
PodResourceClaim name=1! resourceClaimName=3? resourceClaimTemplateName=4?
PodResourceClaimStatus name=1! resourceClaimName=2?
PodSchedulingGate name=1!
PodSchedulingGroup podGroupName=1?
PodSecurityContext seLinuxOptions=1SELinuxOptions windowsOptions=8WindowsSecurityContextOptions runAsUser=2?i
  runAsGroup=6?i runAsNonRoot=3?b supplementalGroups=4*i supplementalGroupsPolicy=12? fsGroup=5?i sysctls=7*Sysctl
  fsGroupChangePolicy=9? seccompProfile=10SeccompProfile appArmorProfile=11AppArmorProfile seLinuxChangePolicy=13?
PodSpec volumes=1*Volume initContainers=20*Container containers=2*Container ephemeralContainers=34*EphemeralContainer
  restartPolicy=3 terminationGracePeriodSeconds=4?i activeDeadlineSeconds=5?i dnsPolicy=6 nodeSelector=7%
  serviceAccountName=8 serviceAccount=9 automountServiceAccountToken=21?b nodeName=10 hostNetwork=11b hostPID=12b
  hostIPC=13b shareProcessNamespace=27?b securityContext=14PodSecurityContext imagePullSecrets=15*LocalObjectReference
  hostname=16 subdomain=17 affinity=18Affinity schedulerName=19 tolerations=22*Toleration hostAliases=23*HostAlias
  priorityClassName=24 priority=25?i dnsConfig=26PodDNSConfig readinessGates=28*PodReadinessGate runtimeClassName=29?
  enableServiceLinks=30?b preemptionPolicy=31? overhead=32%q topologySpreadConstraints=33*TopologySpreadConstraint
  setHostnameAsFQDN=35?b os=36PodOS hostUsers=37?b schedulingGates=38*PodSchedulingGate
  resourceClaims=39*PodResourceClaim resources=40ResourceRequirements hostnameOverride=41?
  schedulingGroup=43PodSchedulingGroup
PodStatus observedGeneration=17i phase=1 conditions=2*PodCondition message=3 reason=4 nominatedNodeName=11 hostIP=5
  hostIPs=16*HostIP podIP=6 podIPs=12*PodIP startTime=7t initContainerStatuses=10*ContainerStatus
  containerStatuses=8*ContainerStatus qosClass=9 ephemeralContainerStatuses=13*ContainerStatus resize=14
  resourceClaimStatuses=15*PodResourceClaimStatus extendedResourceClaimStatus=18PodExtendedResourceClaimStatus
  allocatedResources=19%q resources=20ResourceRequirements
  nodeAllocatableResourceClaimStatuses=21*NodeAllocatableResourceClaimStatus
PodTemplateSpec metadata=1ObjectMeta spec=2PodSpec
PortStatus port=1!i protocol=2! error=3?
PortworxVolumeSource volumeID=1! fsType=2 readOnly=3b
PreferredSchedulingTerm weight=1!i preference=2NodeSelectorTerm
Probe =1^ProbeHandler initialDelaySeconds=2i timeoutSeconds=3i periodSeconds=4i successThreshold=5i
  failureThreshold=6i terminationGracePeriodSeconds=7?i
ProbeHandler exec=1ExecAction httpGet=2HTTPGetAction tcpSocket=3TCPSocketAction grpc=4GRPCAction
ProjectedVolumeSource sources=1*VolumeProjection defaultMode=2?i
QuobyteVolumeSource registry=1! volume=2! readOnly=3b user=4 group=5 tenant=6
RBDVolumeSource monitors=1* image=2! fsType=3 pool=4 user=5 keyring=6 secretRef=7LocalObjectReference readOnly=8b
ResourceClaim name=1! request=2
ResourceFieldSelector containerName=1 resource=2! divisor=3q
ResourceHealth resourceID=1! health=2 message=6?
ResourceQuota metadata=1ObjectMeta spec=2ResourceQuotaSpec status=3ResourceQuotaStatus
ResourceQuotaSpec hard=1%q scopes=2* scopeSelector=3ScopeSelector
ResourceQuotaStatus hard=1%q used=2%q
ResourceRequirements limits=1%q requests=2%q claims=3*ResourceClaim
ResourceStatus name=1! resources=2*ResourceHealth
SELinuxOptions user=1 role=2 type=3 level=4
ScaleIOVolumeSource gateway=1! system=2! secretRef=3LocalObjectReference sslEnabled=4b protectionDomain=5
  storagePool=6 storageMode=7 volumeName=8 fsType=9 readOnly=10b
ScopeSelector matchExpressions=1*ScopedResourceSelectorRequirement
ScopedResourceSelectorRequirement scopeName=1! operator=2! values=3*
SeccompProfile type=1! localhostProfile=2?
Secret metadata=1ObjectMeta immutable=5?b data=2%y stringData=4% type=3
SecretEnvSource =1^LocalObjectReference optional=2?b
SecretKeySelector =1^LocalObjectReference key=2! optional=3?b
SecretProjection =1^LocalObjectReference items=2*KeyToPath optional=4?b
SecretVolumeSource secretName=1 items=2*KeyToPath defaultMode=3?i optional=4?b
SecurityContext capabilities=1Capabilities privileged=2?b seLinuxOptions=3SELinuxOptions
  windowsOptions=10WindowsSecurityContextOptions runAsUser=4?i runAsGroup=8?i runAsNonRoot=5?b
  readOnlyRootFilesystem=6?b allowPrivilegeEscalation=7?b procMount=9? seccompProfile=11SeccompProfile
  appArmorProfile=12AppArmorProfile
Service metadata=1ObjectMeta spec=2ServiceSpec status=3ServiceStatus
ServiceAccount metadata=1ObjectMeta secrets=2*ObjectReference imagePullSecrets=3*LocalObjectReference
  automountServiceAccountToken=4?b
ServiceAccountTokenProjection audience=1 expirationSeconds=2?i path=3!
ServicePort name=1 protocol=2 appProtocol=6? port=3!i targetPort=4x nodePort=5i
ServiceSpec ports=1*ServicePort selector=2% clusterIP=3 clusterIPs=18* type=4 externalIPs=5* sessionAffinity=7
  loadBalancerIP=8 loadBalancerSourceRanges=9* externalName=10 externalTrafficPolicy=11 healthCheckNodePort=12i
  publishNotReadyAddresses=13b sessionAffinityConfig=14SessionAffinityConfig ipFamilies=19* ipFamilyPolicy=17?
  allocateLoadBalancerNodePorts=20?b loadBalancerClass=21? internalTrafficPolicy=22? trafficDistribution=23?
ServiceStatus loadBalancer=1LoadBalancerStatus conditions=2*Condition
SessionAffinityConfig clientIP=1ClientIPConfig
SleepAction seconds=1!i
StorageOSVolumeSource volumeName=1 volumeNamespace=2 fsType=3 readOnly=4b secretRef=5LocalObjectReference
Sysctl name=1! value=2!
TCPSocketAction port=1x host=2
Toleration key=1 operator=2 value=3 effect=4 tolerationSeconds=5?i
TopologySpreadConstraint maxSkew=1!i topologyKey=2! whenUnsatisfiable=3! labelSelector=4LabelSelector minDomains=5?i
  nodeAffinityPolicy=6? nodeTaintsPolicy=7? matchLabelKeys=8*
TypedLocalObjectReference apiGroup=1? kind=2! name=3!
TypedObjectReference apiGroup=1? kind=2! name=3! namespace=4?
Volume name=1! =2^VolumeSource
VolumeDevice name=1! devicePath=2!
VolumeMount name=1! readOnly=2b recursiveReadOnly=7? mountPath=3! subPath=4 mountPropagation=5? subPathExpr=6
VolumeMountStatus name=1! mountPath=2! readOnly=3b recursiveReadOnly=4? volumeStatus=5VolumeStatus
VolumeProjection secret=1SecretProjection downwardAPI=2DownwardAPIProjection configMap=3ConfigMapProjection
  serviceAccountToken=4ServiceAccountTokenProjection clusterTrustBundle=5ClusterTrustBundleProjection
  podCertificate=6PodCertificateProjection
VolumeResourceRequirements limits=1%q requests=2%q
VolumeSource hostPath=1HostPathVolumeSource emptyDir=2EmptyDirVolumeSource
  gcePersistentDisk=3GCEPersistentDiskVolumeSource awsElasticBlockStore=4AWSElasticBlockStoreVolumeSource
  gitRepo=5GitRepoVolumeSource secret=6SecretVolumeSource nfs=7NFSVolumeSource iscsi=8ISCSIVolumeSource
  glusterfs=9GlusterfsVolumeSource persistentVolumeClaim=10PersistentVolumeClaimVolumeSource rbd=11RBDVolumeSource
  flexVolume=12FlexVolumeSource cinder=13CinderVolumeSource cephfs=14CephFSVolumeSource flocker=15FlockerVolumeSource
  downwardAPI=16DownwardAPIVolumeSource fc=17FCVolumeSource azureFile=18AzureFileVolumeSource
  configMap=19ConfigMapVolumeSource vsphereVolume=20VsphereVirtualDiskVolumeSource quobyte=21QuobyteVolumeSource
  azureDisk=22AzureDiskVolumeSource photonPersistentDisk=23PhotonPersistentDiskVolumeSource
  projected=26ProjectedVolumeSource portworxVolume=24PortworxVolumeSource scaleIO=25ScaleIOVolumeSource
  storageos=27StorageOSVolumeSource csi=28CSIVolumeSource ephemeral=29EphemeralVolumeSource image=30ImageVolumeSource
VolumeStatus image=1ImageVolumeStatus
VsphereVirtualDiskVolumeSource volumePath=1! fsType=2 storagePolicyName=3 storagePolicyID=4
WeightedPodAffinityTerm weight=1!i podAffinityTerm=2PodAffinityTerm
WindowsSecurityContextOptions gmsaCredentialSpecName=1? gmsaCredentialSpec=2? runAsUserName=3? hostProcess=4?b
"""
