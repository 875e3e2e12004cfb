"""Workloads, networking, coordination, discovery and extension kinds."""

from typing import Final

from vrata.sandbox.apiserver.kinds import core
from vrata.sandbox.apiserver.schema import Schema, parse

TYPES: Final[dict[str, Schema]] = parse(
    """
RollingUpdateDeployment
  maxUnavailable intstr
  maxSurge       intstr
DeploymentStrategy
  type          string shown=Recreate|RollingUpdate = "RollingUpdate"
  rollingUpdate RollingUpdateDeployment
DeploymentSpec
  replicas                int = 1
  selector!               LabelSelector
  template!               PodTemplateSpec
  strategy                DeploymentStrategy retain = {}
  minReadySeconds         int
  revisionHistoryLimit    int = 10
  paused                  bool
  progressDeadlineSeconds int = 600
DeploymentCondition
  type!              string
  status!            string
  lastUpdateTime     time
  lastTransitionTime time
  reason             string
  message            string
DeploymentStatus
  observedGeneration  long
  replicas            int
  updatedReplicas     int
  readyReplicas       int
  availableReplicas   int
  unavailableReplicas int
  terminatingReplicas int
  conditions          [DeploymentCondition] map=type merge=type
  collisionCount      int
Deployment
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       DeploymentSpec
  status     DeploymentStatus
ReplicaSetSpec
  replicas        int = 1
  minReadySeconds int
  selector!       LabelSelector
  template        PodTemplateSpec
ReplicaSetStatus
  replicas             int
  fullyLabeledReplicas int
  readyReplicas        int
  availableReplicas    int
  terminatingReplicas  int
  observedGeneration   long
  conditions           [Condition] map=type merge=type
ReplicaSet
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       ReplicaSetSpec
  status     ReplicaSetStatus
RollingUpdateDaemonSet
  maxUnavailable intstr = 1
  maxSurge       intstr = 0
DaemonSetUpdateStrategy
  type          string enum=OnDelete|RollingUpdate = "RollingUpdate"
  rollingUpdate RollingUpdateDaemonSet
DaemonSetSpec
  selector!            LabelSelector
  template!            PodTemplateSpec
  updateStrategy       DaemonSetUpdateStrategy = {}
  minReadySeconds      int
  revisionHistoryLimit int = 10
DaemonSetStatus
  currentNumberScheduled int = 0
  numberMisscheduled     int = 0
  desiredNumberScheduled int = 0
  numberReady            int = 0
  observedGeneration     long
  updatedNumberScheduled int
  numberAvailable        int
  numberUnavailable      int
  collisionCount         int
  conditions             [Condition] map=type merge=type
DaemonSet
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       DaemonSetSpec
  status     DaemonSetStatus
ScaleSpec
  replicas int
ScaleStatus
  replicas int
  selector string
Scale
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       ScaleSpec
  status     ScaleStatus
SliceEndpointConditions
  ready       bool
  serving     bool
  terminating bool
SliceEndpoint
  addresses!         [string] set
  conditions         SliceEndpointConditions
  hostname           string
  targetRef          ObjectReference
  deprecatedTopology {string}
  nodeName           string
  zone               string
  hints              any
SlicePort atomic
  name        string = ""
  protocol    string enum=SCTP|TCP|UDP = "TCP"
  port        int
  appProtocol string
EndpointSlice
  apiVersion   string
  kind         string
  metadata     ObjectMeta
  addressType! string enum=FQDN|IPv4|IPv6
  endpoints    [SliceEndpoint]
  ports        [SlicePort]
ServiceBackendPort atomic
  name   string
  number int
IngressServiceBackend
  name! string
  port  ServiceBackendPort
IngressBackend
  service  IngressServiceBackend
  resource TypedLocalObjectReference
HTTPIngressPath
  path     string
  pathType string shown=Exact|ImplementationSpecific|Prefix
  backend! IngressBackend
HTTPIngressRuleValue
  paths! [HTTPIngressPath]
IngressRule
  host string
  http HTTPIngressRuleValue
IngressTLS
  hosts      [string]
  secretName string
IngressSpec
  ingressClassName string
  defaultBackend   IngressBackend
  tls              [IngressTLS]
  rules            [IngressRule]
IngressPortStatus
  port!     int
  protocol! string
  error     string
IngressLoadBalancerIngress
  ip       string
  hostname string
  ports    [IngressPortStatus]
IngressLoadBalancerStatus
  ingress [IngressLoadBalancerIngress]
IngressStatus
  loadBalancer IngressLoadBalancerStatus = {}
Ingress
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       IngressSpec
  status     IngressStatus
IngressClassParametersReference
  apiGroup  string
  kind!     string
  name!     string
  scope     string
  namespace string
IngressClassSpec
  controller string
  parameters IngressClassParametersReference
IngressClass
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       IngressClassSpec
IPBlock
  cidr!  string
  except [string]
NetworkPolicyPeer
  podSelector       LabelSelector
  namespaceSelector LabelSelector
  ipBlock           IPBlock
NetworkPolicyPort
  protocol string = "TCP"
  port     intstr
  endPort  int
NetworkPolicyIngressRule
  ports [NetworkPolicyPort]
  from  [NetworkPolicyPeer]
NetworkPolicyEgressRule
  ports [NetworkPolicyPort]
  to    [NetworkPolicyPeer]
NetworkPolicySpec
  podSelector LabelSelector = {}
  ingress     [NetworkPolicyIngressRule]
  egress      [NetworkPolicyEgressRule]
  policyTypes [string]
NetworkPolicy
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       NetworkPolicySpec
LeaseSpec
  holderIdentity       string
  leaseDurationSeconds int
  acquireTime          time
  renewTime            time
  leaseTransitions     int
  strategy             string
  preferredHolder      string
Lease
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       LeaseSpec
PolicyRule
  verbs!          [string]
  apiGroups       [string]
  resources       [string]
  resourceNames   [string]
  nonResourceURLs [string]
RbacSubject
  kind!     string
  apiGroup  string
  name!     string
  namespace string
RoleRef atomic
  apiGroup! string
  kind!     string
  name!     string
AggregationRule
  clusterRoleSelectors [LabelSelector]
Role
  apiVersion string
  kind       string
  metadata   ObjectMeta
  rules      [PolicyRule]
ClusterRole
  apiVersion      string
  kind            string
  metadata        ObjectMeta
  rules           [PolicyRule]
  aggregationRule AggregationRule
RoleBinding
  apiVersion string
  kind       string
  metadata   ObjectMeta
  subjects   [RbacSubject]
  roleRef!   RoleRef
ClusterRoleBinding
  apiVersion string
  kind       string
  metadata   ObjectMeta
  subjects   [RbacSubject]
  roleRef!   RoleRef
PodDisruptionBudgetSpec
  minAvailable               intstr
  maxUnavailable             intstr
  selector                   LabelSelector
  unhealthyPodEvictionPolicy string enum=AlwaysAllow|IfHealthyBudget
PodDisruptionBudgetStatus
  observedGeneration long
  disruptedPods      any
  disruptionsAllowed int
  currentHealthy     int
  desiredHealthy     int
  expectedPods       int
  conditions         [Condition] map=type merge=type
PodDisruptionBudget
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       PodDisruptionBudgetSpec
  status     PodDisruptionBudgetStatus
RuleWithOperations
  operations  [string]
  apiGroups   [string]
  apiVersions [string]
  resources   [string]
  scope       string enum=*|Cluster|Namespaced = "*"
WebhookService
  namespace! string
  name!      string
  path       string
  port       int = 443
WebhookClientConfig
  url      string
  service  WebhookService
  caBundle bytes
MatchCondition
  name!       string
  expression! string
ValidatingWebhook
  name!                    string
  clientConfig!            WebhookClientConfig
  rules                    [RuleWithOperations]
  failurePolicy            string enum=Fail|Ignore = "Fail"
  matchPolicy              string enum=Equivalent|Exact = "Equivalent"
  namespaceSelector        LabelSelector = {}
  objectSelector           LabelSelector = {}
  sideEffects!             string enum=None|NoneOnDryRun
  timeoutSeconds           int = 10
  admissionReviewVersions! [string]
  matchConditions          [MatchCondition] map=name merge=name
ValidatingWebhookConfiguration
  apiVersion string
  kind       string
  metadata   ObjectMeta
  webhooks   [ValidatingWebhook] map=name merge=name
CrdNames
  plural!    string
  singular   string
  shortNames [string]
  kind!      string
  listKind   string
  categories [string]
CrdPrinterColumn
  name!       string
  type!       string
  format      string
  description string
  priority    int
  jsonPath!   string
CrdVersion
  name!                    string
  served!                  bool
  storage!                 bool
  deprecated               bool
  deprecationWarning       string
  schema                   any
  subresources             any
  additionalPrinterColumns [CrdPrinterColumn]
  selectableFields         any
CrdSpec
  group!                string
  names!                CrdNames
  scope!                string enum=Cluster|Namespaced
  versions!             [CrdVersion]
  conversion            any
  preserveUnknownFields bool
CrdStatus
  conditions         [Condition] map=type
  acceptedNames      CrdNames
  storedVersions     [string]
  observedGeneration long
CustomResourceDefinition
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec!      CrdSpec
  status     CrdStatus
ResourceAttributes
  namespace     string
  verb          string
  group         string
  version       string
  resource      string
  subresource   string
  name          string
  fieldSelector any
  labelSelector any
NonResourceAttributes
  path string
  verb string
SelfSubjectAccessReviewSpec
  resourceAttributes    ResourceAttributes
  nonResourceAttributes NonResourceAttributes
SubjectAccessReviewStatus
  allowed!        bool
  denied          bool
  reason          string
  evaluationError string
SelfSubjectAccessReview
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       SelfSubjectAccessReviewSpec
  status     SubjectAccessReviewStatus
TokenRequestSpec
  audiences         [string]
  boundObjectRef    ObjectReference
  expirationSeconds long = 3600
TokenRequestStatus
  token               string
  expirationTimestamp time
TokenRequest
  apiVersion string
  kind       string
  metadata   ObjectMeta
  spec       TokenRequestSpec
  status     TokenRequestStatus
""",
    core.TYPES,
)
