"""Projections of Kubernetes objects: frozen, and only the fields that Vrata reads.

Tuples and `gc=False` keep the cyclic collector out of caches of 100,000 objects (pauses of 5 ms instead of 150). A
projection lacks fields, so it is never written back. Field meanings: Kubernetes API reference v1.37.
"""

from datetime import datetime
from typing import TypeAlias

import msgspec


class Projection(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """Base of all projections."""


Labels: TypeAlias = dict[str, str]


class OwnerReference(Projection, frozen=True):
    kind: str
    name: str
    uid: str
    controller: bool = False


class ObjectMeta(Projection, frozen=True):
    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    labels: Labels = {}
    annotations: Labels = {}
    finalizers: tuple[str, ...] = ()
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None

    @property
    def key(self) -> str:
        """`namespace/name`, or just the name of a cluster-wide object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class ServicePort(Projection, frozen=True):
    port: int
    name: str = ""
    protocol: str = "TCP"
    target_port: int | str = 0
    node_port: int = 0
    app_protocol: str = ""


class ClientIpConfig(Projection, frozen=True):
    timeout_seconds: int = 10800


class SessionAffinityConfig(Projection, frozen=True):
    client_ip: ClientIpConfig | None = msgspec.field(name="clientIP", default=None)


class ServiceSpec(Projection, frozen=True):
    type: str = "ClusterIP"
    ports: tuple[ServicePort, ...] = ()
    selector: Labels = {}
    cluster_ip: str = msgspec.field(name="clusterIP", default="")
    cluster_ips: tuple[str, ...] = msgspec.field(name="clusterIPs", default=())
    external_ips: tuple[str, ...] = msgspec.field(name="externalIPs", default=())
    external_name: str = ""
    external_traffic_policy: str = "Cluster"
    internal_traffic_policy: str = "Cluster"
    health_check_node_port: int = 0
    load_balancer_ip: str = msgspec.field(name="loadBalancerIP", default="")
    load_balancer_class: str | None = None
    load_balancer_source_ranges: tuple[str, ...] = ()
    session_affinity: str = "None"
    session_affinity_config: SessionAffinityConfig | None = None
    ip_families: tuple[str, ...] = ()


class LoadBalancerIngress(Projection, frozen=True):
    ip: str = ""
    hostname: str = ""
    ip_mode: str = ""


class LoadBalancerStatus(Projection, frozen=True):
    ingress: tuple[LoadBalancerIngress, ...] = ()


class ServiceStatus(Projection, frozen=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class Service(Projection, frozen=True):
    metadata: ObjectMeta
    spec: ServiceSpec = ServiceSpec()
    status: ServiceStatus = ServiceStatus()


class PartialObject(Projection, frozen=True):
    """Metadata of any object."""

    metadata: ObjectMeta


class ConfigMap(Projection, frozen=True):
    metadata: ObjectMeta
    data: dict[str, str] = {}


class Secret(Projection, frozen=True):
    """Values are base64 of the content."""

    metadata: ObjectMeta
    data: dict[str, str] = {}
    type: str = "Opaque"


class Namespace(Projection, frozen=True):
    metadata: ObjectMeta


class NodeAddress(Projection, frozen=True):
    type: str
    address: str


class Condition(Projection, frozen=True):
    type: str
    status: str
    reason: str = ""


class Taint(Projection, frozen=True):
    key: str
    effect: str = ""
    value: str = ""


class NodeSpec(Projection, frozen=True):
    pod_cidr: str = msgspec.field(name="podCIDR", default="")
    pod_cidrs: tuple[str, ...] = msgspec.field(name="podCIDRs", default=())
    provider_id: str = msgspec.field(name="providerID", default="")
    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class NodeStatus(Projection, frozen=True):
    addresses: tuple[NodeAddress, ...] = ()
    conditions: tuple[Condition, ...] = ()


class Node(Projection, frozen=True):
    metadata: ObjectMeta
    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    def address(self, type_: str) -> str | None:
        """The first address of a type (`InternalIP`, `ExternalIP`, `Hostname`)."""
        return next((entry.address for entry in self.status.addresses if entry.type == type_), None)

    def is_ready(self) -> bool:
        """Whether the kubelet's Ready condition is True."""
        return any(entry.type == "Ready" and entry.status == "True" for entry in self.status.conditions)


class EndpointConditions(Projection, frozen=True):
    """Absent `ready` and `serving` mean true (discovery.k8s.io/v1)."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class ObjectReference(Projection, frozen=True):
    kind: str = ""
    name: str = ""
    namespace: str = ""
    uid: str = ""


class Hint(Projection, frozen=True):
    """A zone or a node that an endpoint is for."""

    name: str


class EndpointHints(Projection, frozen=True):
    for_zones: tuple[Hint, ...] | None = ()
    for_nodes: tuple[Hint, ...] | None = ()


class Endpoint(Projection, frozen=True):
    addresses: tuple[str, ...]
    conditions: EndpointConditions = EndpointConditions()
    node_name: str = ""
    target_ref: ObjectReference | None = None
    hints: EndpointHints | None = None


class EndpointPort(Projection, frozen=True):
    name: str = ""
    port: int = 0
    protocol: str = "TCP"


class EndpointSlice(Projection, frozen=True):
    metadata: ObjectMeta
    address_type: str = "IPv4"
    endpoints: tuple[Endpoint, ...] | None = ()
    ports: tuple[EndpointPort, ...] | None = ()

    @property
    def service_key(self) -> str:
        """Key of the Service this slice belongs to."""
        return f"{self.metadata.namespace}/{self.metadata.labels.get('kubernetes.io/service-name', '')}"


class ServiceBackendPort(Projection, frozen=True):
    name: str = ""
    number: int = 0


class IngressServiceBackend(Projection, frozen=True):
    name: str
    port: ServiceBackendPort = ServiceBackendPort()


class IngressBackend(Projection, frozen=True):
    service: IngressServiceBackend | None = None
    resource: ObjectReference | None = None


class HttpIngressPath(Projection, frozen=True):
    path_type: str
    backend: IngressBackend
    path: str = ""


class HttpIngressRuleValue(Projection, frozen=True):
    paths: tuple[HttpIngressPath, ...] = ()


class IngressRule(Projection, frozen=True):
    host: str = ""
    http: HttpIngressRuleValue | None = None


class IngressTls(Projection, frozen=True):
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(Projection, frozen=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    rules: tuple[IngressRule, ...] = ()
    tls: tuple[IngressTls, ...] = ()


class IngressStatus(Projection, frozen=True):
    load_balancer: LoadBalancerStatus = LoadBalancerStatus()


class ManagedFields(Projection, frozen=True):
    manager: str = ""
    subresource: str = ""


class IngressMeta(ObjectMeta, frozen=True):
    managed_fields: tuple[ManagedFields, ...] = ()


class Ingress(Projection, frozen=True):
    metadata: IngressMeta
    spec: IngressSpec = IngressSpec()
    status: IngressStatus = IngressStatus()


class IngressClassParameters(Projection, frozen=True):
    kind: str
    name: str
    api_group: str = ""
    namespace: str = ""


class IngressClassSpec(Projection, frozen=True):
    controller: str = ""
    parameters: IngressClassParameters | None = None


class IngressClass(Projection, frozen=True):
    metadata: ObjectMeta
    spec: IngressClassSpec = IngressClassSpec()
