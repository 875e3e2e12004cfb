"""Which resources are served, and what the verbs need to know of each. Custom ones come and go at run time. No I/O."""

from dataclasses import dataclass
from typing import Any, Final

from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.kinds.apps import TYPES
from vrata.sandbox.apiserver.schema import Schema

CORE_VERBS: Final = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True, eq=False)
class Resource:
    """One resource in one version."""

    group: str
    version: str
    kind: str
    plural: str
    schema: Schema
    namespaced: bool = True
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    selectable: frozenset[str] = frozenset()
    generation: bool = False
    singular_name: str = ""
    list_kind_name: str = ""
    storage_name: str = ""
    crd: str = ""  # name of the definition of a custom resource
    columns: tuple[Obj, ...] = ()  # additionalPrinterColumns
    scale: Obj | None = None  # paths of a custom resource's scale subresource
    verbs: tuple[str, ...] = CORE_VERBS

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def storage(self) -> str:
        """Where the store keeps it; equal for all versions."""
        return self.storage_name or (f"{self.plural}.{self.group}" if self.group else self.plural)

    @property
    def singular(self) -> str:
        """`deployment`."""
        return self.singular_name or self.kind.lower()

    @property
    def list_kind(self) -> str:
        """`DeploymentList`."""
        return self.list_kind_name or f"{self.kind}List"

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own subresource only."""
        return "status" in self.subresources


_EVENT_FIELDS = frozenset(
    f"involvedObject.{name}"
    for name in ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")
) | {"reason", "type", "source", "reportingComponent"}


_POD_FIELDS = frozenset(
    ("status.phase", "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
     "status.podIP", "spec.hostNetwork", "status.nominatedNodeName")
)  # fmt: skip
_NEW_EVENT_FIELDS = frozenset(
    (
        "reason",
        "type",
        "reportingController",
        "regarding.kind",
        "regarding.name",
        "regarding.namespace",
        "regarding.uid",
    )
)
_POD_SUBRESOURCES = ("status", "log", "binding", "eviction")


def _served(group: str, kind: str, plural: str, short: str = "", **more: Any) -> Resource:
    """A built-in resource in v1; `short` are its short names, separated by spaces."""
    schema = TYPES["EventsEvent" if group == "events.k8s.io" else kind]
    return Resource(group, "v1", kind, plural, schema, short_names=tuple(short.split()), **more)


def _builtin() -> tuple[Resource, ...]:
    status, scalable = ("status",), ("status", "scale")
    every: Any = {"categories": ("all",)}
    counted: Any = {"generation": True}
    crd: Any = {"categories": ("api-extensions",), "subresources": status, "namespaced": False} | counted
    return (
        _served("", "Namespace", "namespaces", "ns", namespaced=False, subresources=("status", "finalize"),
                selectable=frozenset(("status.phase",))),
        _served("", "Node", "nodes", "no", namespaced=False, subresources=status,
                selectable=frozenset(("spec.unschedulable",))),
        _served("", "Pod", "pods", "po", subresources=_POD_SUBRESOURCES, selectable=_POD_FIELDS, **every, **counted),
        _served("", "Service", "services", "svc", subresources=status,
                selectable=frozenset(("spec.clusterIP", "spec.type")), **every),
        _served("", "Endpoints", "endpoints", "ep"),
        _served("", "Secret", "secrets", selectable=frozenset(("type",))),
        _served("", "ConfigMap", "configmaps", "cm"),
        _served("", "ServiceAccount", "serviceaccounts", "sa", subresources=("token",)),
        _served("", "Event", "events", "ev", selectable=_EVENT_FIELDS),
        _served("events.k8s.io", "Event", "events", "ev", selectable=_NEW_EVENT_FIELDS, storage_name="events"),
        _served("apps", "Deployment", "deployments", "deploy", subresources=scalable, **every, **counted),
        _served("apps", "ReplicaSet", "replicasets", "rs", subresources=scalable,
                selectable=frozenset(("status.replicas",)), **every, **counted),
        _served("apps", "DaemonSet", "daemonsets", "ds", subresources=status, **every, **counted),
        # Kept and shown, not enforced: evictions delete.
        _served("policy", "PodDisruptionBudget", "poddisruptionbudgets", "pdb", subresources=status, **counted),
        _served("discovery.k8s.io", "EndpointSlice", "endpointslices", **counted),
        _served("networking.k8s.io", "Ingress", "ingresses", "ing", subresources=status, **counted),
        _served("networking.k8s.io", "IngressClass", "ingressclasses", namespaced=False, **counted),
        # Kept and shown, not enforced: in the sandbox every pod reaches every pod.
        _served("networking.k8s.io", "NetworkPolicy", "networkpolicies", "netpol", **counted),
        _served("coordination.k8s.io", "Lease", "leases"),
        # Kept and shown, not asked.
        _served("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations",
                namespaced=False, categories=("api-extensions",), **counted),
        _served("rbac.authorization.k8s.io", "Role", "roles"),
        _served("rbac.authorization.k8s.io", "ClusterRole", "clusterroles", namespaced=False),
        _served("rbac.authorization.k8s.io", "RoleBinding", "rolebindings"),
        _served("rbac.authorization.k8s.io", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
        _served("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions", "crd crds", **crd),
        _served("authorization.k8s.io", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False,
                verbs=("create",)),
    )  # fmt: skip


class Registry:
    """What is served now. `version` rises with every change, for caches of discovery and OpenAPI."""

    def __init__(self) -> None:
        self.version = 0
        self._by_path: dict[tuple[str, str, str], Resource] = {}
        for resource in _builtin():
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve a resource from now on."""
        self._by_path[resource.group, resource.version, resource.plural] = resource
        self.version += 1

    def drop_crd(self, name: str) -> None:
        """Serve no version of this definition any more."""
        for path, resource in list(self._by_path.items()):
            if resource.crd == name:
                del self._by_path[path]
        self.version += 1

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource behind a path."""
        return self._by_path.get((group, version, plural))

    def all(self) -> list[Resource]:
        """Everything served."""
        return list(self._by_path.values())

    def in_storage(self, storage: str) -> Resource | None:
        """A served version of what the store keeps under this name."""
        return next((resource for resource in self._by_path.values() if resource.storage == storage), None)

    def groups(self) -> dict[str, list[str]]:
        """Group names with their versions, in the order of priority."""
        found: dict[str, list[str]] = {}
        for resource in self._by_path.values():
            versions = found.setdefault(resource.group, [])
            if resource.version not in versions:
                versions.append(resource.version)
        return found
