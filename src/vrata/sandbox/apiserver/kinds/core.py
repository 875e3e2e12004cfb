"""The other kinds of the core group, and Events of both groups."""

from typing import Final

from vrata.sandbox.apiserver.kinds import pod
from vrata.sandbox.apiserver.schema import Schema, parse

TYPES: Final[dict[str, Schema]] = parse(
    """
NamespaceSpec
  finalizers [string]
NamespaceStatus
  phase      string
  conditions [Condition] map=type merge=type
Namespace
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       NamespaceSpec
  status     NamespaceStatus
Taint
  key!      string
  value     string
  effect!   string
  timeAdded time
NodeSpec
  podCIDR       string
  podCIDRs      [string] set merge
  providerID    string
  unschedulable bool
  taints        [Taint]
  configSource  any
  externalID    string
NodeCondition
  type!              string
  status!            string
  lastHeartbeatTime  time
  lastTransitionTime time
  reason             string
  message            string
NodeAddress
  type!    string
  address! string
DaemonEndpoint
  Port! int
NodeDaemonEndpoints
  kubeletEndpoint DaemonEndpoint
NodeSystemInfo
  machineID               string
  systemUUID              string
  bootID                  string
  kernelVersion           string
  osImage                 string
  containerRuntimeVersion string
  kubeletVersion          string
  kubeProxyVersion        string
  operatingSystem         string
  architecture            string
  swap                    any
NodeStatus
  capacity         {quantity}
  allocatable      {quantity}
  phase            string
  conditions       [NodeCondition] map=type merge=type
  addresses        [NodeAddress] map=type merge=type
  daemonEndpoints  NodeDaemonEndpoints
  nodeInfo         NodeSystemInfo
  images           any
  volumesInUse     [string]
  volumesAttached  any
  config           any
  runtimeHandlers  any
  features         any
  declaredFeatures [string]
Node
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       NodeSpec
  status     NodeStatus
ServicePort
  name        string
  protocol    string enum=SCTP|TCP|UDP = "TCP"
  appProtocol string
  port!       int
  targetPort  intstr
  nodePort    int
ClientIPConfig
  timeoutSeconds int
SessionAffinityConfig
  clientIP ClientIPConfig
ServiceSpec
  ports                         [ServicePort] map=port,protocol merge=port
  selector                      {string} atomic
  clusterIP                     string
  clusterIPs                    [string]
  type                          string enum=ClusterIP|ExternalName|LoadBalancer|NodePort = "ClusterIP"
  externalIPs                   [string]
  sessionAffinity               string enum=ClientIP|None = "None"
  loadBalancerIP                string
  loadBalancerSourceRanges      [string]
  externalName                  string
  externalTrafficPolicy         string enum=Cluster|Local
  healthCheckNodePort           int
  publishNotReadyAddresses      bool
  sessionAffinityConfig         SessionAffinityConfig
  ipFamilies                    [string]
  ipFamilyPolicy                string enum=PreferDualStack|RequireDualStack|SingleStack
  allocateLoadBalancerNodePorts bool
  loadBalancerClass             string
  internalTrafficPolicy         string enum=Cluster|Local
  trafficDistribution           string
PortStatus
  port!     int
  protocol! string
  error     string
LoadBalancerIngress
  ip       string
  hostname string
  ipMode   string
  ports    [PortStatus]
LoadBalancerStatus
  ingress [LoadBalancerIngress]
ServiceStatus
  loadBalancer LoadBalancerStatus = {}
  conditions   [Condition] map=type merge=type
Service
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       ServiceSpec
  status     ServiceStatus
EndpointAddress atomic
  ip!       string
  hostname  string
  nodeName  string
  targetRef ObjectReference
EndpointPort atomic
  name        string
  port!       int
  protocol    string = "TCP"
  appProtocol string
EndpointSubset
  addresses         [EndpointAddress]
  notReadyAddresses [EndpointAddress]
  ports             [EndpointPort]
Endpoints
  apiVersion string
  kind       string
  metadata   ObjectMeta
  subsets    [EndpointSubset]
Secret
  apiVersion string
  kind       string
  metadata   ObjectMeta
  immutable  bool
  data       {bytes}
  stringData {string}
  type       string = "Opaque"
ConfigMap
  apiVersion string
  kind       string
  metadata   ObjectMeta
  immutable  bool
  data       {string}
  binaryData {bytes}
ServiceAccount
  apiVersion                   string
  kind                         string
  metadata                     ObjectMeta
  secrets                      [ObjectReference] map=name merge=name
  imagePullSecrets             [LocalObjectReference]
  automountServiceAccountToken bool
EventSource
  component string
  host      string
CoreEventSeries
  count            int
  lastObservedTime time
Event
  apiVersion         string
  kind               string
  metadata!          ObjectMeta
  involvedObject!    ObjectReference = {}
  reason             string
  message            string
  source             EventSource = {}
  firstTimestamp     time
  lastTimestamp      time
  count              int
  type               string
  eventTime          time
  series             CoreEventSeries
  action             string
  related            ObjectReference
  reportingComponent string = ""
  reportingInstance  string = ""
EventsEvent
  apiVersion               string
  kind                     string
  metadata                 ObjectMeta
  eventTime                time
  series                   CoreEventSeries
  reportingController      string
  reportingInstance        string
  action                   string
  reason                   string
  regarding                ObjectReference
  related                  ObjectReference
  note                     string
  type                     string
  deprecatedSource         EventSource
  deprecatedFirstTimestamp time
  deprecatedLastTimestamp  time
  deprecatedCount          int
""",
    pod.TYPES,
)
