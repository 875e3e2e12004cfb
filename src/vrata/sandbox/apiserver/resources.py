"""Which resources are served, and what the verbs need to know of each. Custom ones come and go at run time. No I/O."""

from dataclasses import dataclass
from typing import Final

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


def _builtin() -> tuple[Resource, ...]:
    core, apps, net = ("", "v1"), ("apps", "v1"), ("networking.k8s.io", "v1")
    everything = ("all",)
    pod_fields = frozenset(
        ("status.phase", "spec.nodeName", "spec.restartPolicy", "spec.serviceAccountName", "spec.schedulerName",
         "status.podIP", "spec.hostNetwork", "status.nominatedNodeName")
    )  # fmt: skip
    return (
        Resource(*core, "Namespace", "namespaces", TYPES["Namespace"], False, ("ns",), subresources=("status", "finalize"),
                 selectable=frozenset(("status.phase",))),
        Resource(*core, "Node", "nodes", TYPES["Node"], False, ("no",), subresources=("status",),
                 selectable=frozenset(("spec.unschedulable",))),
        Resource(*core, "Pod", "pods", TYPES["Pod"], True, ("po",), everything,
                 ("status", "log", "binding", "eviction"), pod_fields, generation=True),
        Resource(*core, "Service", "services", TYPES["Service"], True, ("svc",), everything, ("status",),
                 frozenset(("spec.clusterIP", "spec.type"))),
        Resource(*core, "Endpoints", "endpoints", TYPES["Endpoints"], True, ("ep",)),
        Resource(*core, "Secret", "secrets", TYPES["Secret"], selectable=frozenset(("type",))),
        Resource(*core, "ConfigMap", "configmaps", TYPES["ConfigMap"], True, ("cm",)),
        Resource(*core, "ServiceAccount", "serviceaccounts", TYPES["ServiceAccount"], True, ("sa",)),
        Resource(*core, "Event", "events", TYPES["Event"], True, ("ev",), selectable=_EVENT_FIELDS),
        Resource("events.k8s.io", "v1", "Event", "events", TYPES["EventsEvent"], True, ("ev",),
                 selectable=frozenset(("reason", "type", "reportingController", "regarding.kind", "regarding.name",
                                       "regarding.namespace", "regarding.uid")), storage_name="events"),
        Resource(*apps, "Deployment", "deployments", TYPES["Deployment"], True, ("deploy",), everything,
                 ("status", "scale"), generation=True),
        Resource(*apps, "ReplicaSet", "replicasets", TYPES["ReplicaSet"], True, ("rs",), everything,
                 ("status", "scale"), frozenset(("status.replicas",)), generation=True),
        Resource("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", TYPES["EndpointSlice"], generation=True),
        Resource(*net, "Ingress", "ingresses", TYPES["Ingress"], True, ("ing",), subresources=("status",),
                 generation=True),
        Resource(*net, "IngressClass", "ingressclasses", TYPES["IngressClass"], False, generation=True),
        Resource("coordination.k8s.io", "v1", "Lease", "leases", TYPES["Lease"]),
        Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions",
                 TYPES["CustomResourceDefinition"], False, ("crd", "crds"), ("api-extensions",), ("status",),
                 generation=True),
        Resource("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews",
                 TYPES["SelfSubjectAccessReview"], False, verbs=("create",)),
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
