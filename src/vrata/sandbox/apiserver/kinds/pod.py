"""Pods and the pod template that workloads share (core/v1)."""

from typing import Final

from vrata.sandbox.apiserver.kinds import meta
from vrata.sandbox.apiserver.schema import Schema, parse

TYPES: Final[dict[str, Schema]] = parse(
    """
ObjectFieldSelector atomic
  apiVersion string = "v1"
  fieldPath! string
ResourceFieldSelector atomic
  containerName string
  resource!     string
  divisor       quantity
KeySelector atomic
  name     string
  key!     string
  optional bool
EnvVarSource
  fieldRef         ObjectFieldSelector
  resourceFieldRef ResourceFieldSelector
  configMapKeyRef  KeySelector
  secretKeyRef     KeySelector
  fileKeyRef       any
EnvVar
  name!     string
  value     string
  valueFrom EnvVarSource
EnvSource
  name     string
  optional bool
EnvFromSource
  prefix       string
  configMapRef EnvSource
  secretRef    EnvSource
ContainerPort
  name          string
  hostPort      int
  containerPort! int
  protocol      string enum=SCTP|TCP|UDP = "TCP"
  hostIP        string
ResourceClaim
  name!   string
  request string
ResourceRequirements
  limits   {quantity}
  requests {quantity}
  claims   [ResourceClaim] map=name
VolumeMount
  name!             string
  readOnly          bool
  recursiveReadOnly string
  mountPath!        string
  subPath           string
  subPathExpr       string
  mountPropagation  string
VolumeDevice
  name!       string
  devicePath! string
ExecAction
  command [string]
HTTPHeader
  name!  string
  value! string
HTTPGetAction
  path        string = "/"
  port!       intstr
  host        string
  scheme      string enum=HTTP|HTTPS = "HTTP"
  httpHeaders [HTTPHeader]
TCPSocketAction
  port! intstr
  host  string
GRPCAction
  port!   int
  service string = ""
SleepAction
  seconds! long
Probe
  exec                          ExecAction
  httpGet                       HTTPGetAction
  tcpSocket                     TCPSocketAction
  grpc                          GRPCAction
  initialDelaySeconds           int
  timeoutSeconds                int = 1
  periodSeconds                 int = 10
  successThreshold              int = 1
  failureThreshold              int = 3
  terminationGracePeriodSeconds long
LifecycleHandler
  exec      ExecAction
  httpGet   HTTPGetAction
  tcpSocket TCPSocketAction
  sleep     SleepAction
Lifecycle
  postStart  LifecycleHandler
  preStop    LifecycleHandler
  stopSignal string
Capabilities
  add  [string]
  drop [string]
SecurityContext
  capabilities             Capabilities
  privileged               bool
  seLinuxOptions           any
  windowsOptions           any
  runAsUser                long
  runAsGroup               long
  runAsNonRoot             bool
  readOnlyRootFilesystem   bool
  allowPrivilegeEscalation bool
  procMount                string
  seccompProfile           any
  appArmorProfile          any
Container
  name!                    string
  image                    string
  command                  [string]
  args                     [string]
  workingDir               string
  ports                    [ContainerPort] map=containerPort,protocol merge=containerPort
  envFrom                  [EnvFromSource]
  env                      [EnvVar] map=name merge=name
  resources                ResourceRequirements = {}
  resizePolicy             any
  restartPolicy            string
  restartPolicyRules       any
  volumeMounts             [VolumeMount] map=mountPath merge=mountPath
  volumeDevices            [VolumeDevice] map=devicePath merge=devicePath
  livenessProbe            Probe
  readinessProbe           Probe
  startupProbe             Probe
  lifecycle                Lifecycle
  terminationMessagePath   string = "/dev/termination-log"
  terminationMessagePolicy string enum=FallbackToLogsOnError|File = "File"
  imagePullPolicy          string enum=Always|IfNotPresent|Never
  securityContext          SecurityContext
  stdin                    bool
  stdinOnce                bool
  tty                      bool
EphemeralContainer
  name!               string
  image               string
  command             [string]
  args                [string]
  targetContainerName string
  env                 [EnvVar] map=name merge=name
  stdin               bool
  tty                 bool
KeyToPath
  key!  string
  path! string
  mode  int
SecretVolumeSource
  secretName  string
  items       [KeyToPath]
  defaultMode int = 420
  optional    bool
ConfigMapVolumeSource
  name        string
  items       [KeyToPath]
  defaultMode int = 420
  optional    bool
HostPathVolumeSource
  path! string
  type  string = ""
EmptyDirVolumeSource
  medium    string
  sizeLimit quantity
Volume
  name!                 string
  secret                SecretVolumeSource
  configMap             ConfigMapVolumeSource
  hostPath              HostPathVolumeSource
  emptyDir              EmptyDirVolumeSource
  persistentVolumeClaim any
  downwardAPI           any
  projected             any
  csi                   any
  nfs                   any
  ephemeral             any
  iscsi                 any
  image                 any
Toleration atomic
  key               string
  operator          string
  value             string
  effect            string
  tolerationSeconds long
HostAlias
  ip!       string
  hostnames [string]
PodSecurityContext
  seLinuxOptions           any
  windowsOptions           any
  runAsUser                long
  runAsGroup               long
  runAsNonRoot             bool
  supplementalGroups       [long]
  supplementalGroupsPolicy string
  fsGroup                  long
  fsGroupChangePolicy      string
  seLinuxChangePolicy      string
  sysctls                  any
  seccompProfile           any
  appArmorProfile          any
TopologySpreadConstraint
  maxSkew!           int
  topologyKey!       string
  whenUnsatisfiable! string
  labelSelector      LabelSelector
  minDomains         int
  nodeAffinityPolicy string
  nodeTaintsPolicy   string
  matchLabelKeys     [string]
PodReadinessGate
  conditionType! string
PodSpec
  volumes                       [Volume] map=name merge=name retain
  initContainers                [Container] map=name merge=name
  containers!                   [Container] map=name merge=name
  ephemeralContainers           [EphemeralContainer] map=name merge=name
  restartPolicy                 string enum=Always|OnFailure|Never = "Always"
  terminationGracePeriodSeconds long = 30
  activeDeadlineSeconds         long
  dnsPolicy                     string enum=ClusterFirst|ClusterFirstWithHostNet|Default|None = "ClusterFirst"
  nodeSelector                  {string} atomic
  serviceAccountName            string
  serviceAccount                string
  automountServiceAccountToken  bool
  nodeName                      string
  hostNetwork                   bool
  hostPID                       bool
  hostIPC                       bool
  hostUsers                     bool
  shareProcessNamespace         bool
  securityContext               PodSecurityContext = {}
  imagePullSecrets              [LocalObjectReference] map=name merge=name
  hostname                      string
  hostnameOverride              string
  subdomain                     string
  setHostnameAsFQDN             bool
  affinity                      any
  schedulerName                 string = "default-scheduler"
  tolerations                   [Toleration]
  hostAliases                   [HostAlias] map=ip merge=ip
  priorityClassName             string
  priority                      int
  preemptionPolicy              string
  dnsConfig                     any
  readinessGates                [PodReadinessGate]
  runtimeClassName              string
  enableServiceLinks            bool
  overhead                      {quantity}
  topologySpreadConstraints     [TopologySpreadConstraint] map=topologyKey,whenUnsatisfiable merge=topologyKey
  os                            any
  schedulingGates               any
  resourceClaims                any
  resources                     ResourceRequirements
PodTemplateSpec
  metadata ObjectMeta
  spec     PodSpec
PodCondition
  type!              string
  status!            string
  observedGeneration long
  lastProbeTime      time
  lastTransitionTime time
  reason             string
  message            string
ContainerState
  waiting    any
  running    any
  terminated any
ContainerStatus
  name!                    string
  state                    ContainerState
  lastState                ContainerState
  ready!                   bool
  restartCount!            int
  image!                   string
  imageID!                 string
  containerID              string
  started                  bool
  allocatedResources       any
  allocatedResourcesStatus any
  resources                any
  volumeMounts             any
  user                     any
  stopSignal               string
PodIP
  ip! string
HostIP
  ip! string
PodStatus
  observedGeneration         long
  phase                      string enum=Pending|Running|Succeeded|Failed|Unknown
  conditions                 [PodCondition] map=type merge=type
  message                    string
  reason                     string
  nominatedNodeName          string
  hostIP                     string
  hostIPs                    [HostIP]
  podIP                      string
  podIPs                     [PodIP] map=ip merge=ip
  startTime                  time
  initContainerStatuses      [ContainerStatus]
  containerStatuses          [ContainerStatus]
  ephemeralContainerStatuses [ContainerStatus]
  qosClass                   string
  resize                     string
  resourceClaimStatuses      any
Pod
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       PodSpec
  status     PodStatus
""",
    meta.TYPES,
)
