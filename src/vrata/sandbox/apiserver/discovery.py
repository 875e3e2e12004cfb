"""What clients ask first: groups, versions and resources, plain and aggregated (apidiscovery.k8s.io/v2). No I/O."""

from typing import Final

from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.resources import Registry, Resource

GIT_VERSION: Final = "v1.37.0+vrata"
_SUB_KINDS: Final = {
    "scale": ("autoscaling", "v1", "Scale"),
    "binding": ("", "v1", "Binding"),
    "eviction": ("policy", "v1", "Eviction"),
    "token": ("authentication.k8s.io", "v1", "TokenRequest"),
}
_SUB_VERBS: Final = {
    "log": ["get"],
    "binding": ["create"],
    "eviction": ["create"],
    "token": ["create"],
    "finalize": ["update"],
}


def version() -> Obj:
    """The answer of /version."""
    return {
        "major": "1",
        "minor": "37",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "",
        "platform": "linux/amd64",
    }


def _sub_kind(resource: Resource, subresource: str) -> tuple[str, str, str]:
    return _SUB_KINDS.get(subresource, (resource.group, resource.version, resource.kind))


def resource_list(registry: Registry, group: str, group_version: str) -> Obj:
    """The APIResourceList of one group version."""
    resources: list[Obj] = []
    wanted = group_version.rpartition("/")[2]
    for resource in registry.all():
        if resource.group != group or resource.version != wanted:
            continue
        entry: Obj = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        resources.append(entry)
        for subresource in resource.subresources:
            sub_group, sub_version, kind = _sub_kind(resource, subresource)
            sub: Obj = {
                "name": f"{resource.plural}/{subresource}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": _SUB_VERBS.get(subresource, ["get", "patch", "update"]),
            }
            if subresource in _SUB_KINDS:
                sub |= {"group": sub_group, "version": sub_version}
            resources.append(sub)
    resources.sort(key=lambda entry: entry["name"])
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources}


def api_versions(address: str) -> Obj:
    """The answer of /api."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def api_group(group: str, versions: list[str]) -> Obj:
    """One APIGroup."""
    entries = [{"groupVersion": f"{group}/{v}", "version": v} for v in versions]
    return {"name": group, "versions": entries, "preferredVersion": entries[0]}


def group_list(registry: Registry) -> Obj:
    """The answer of /apis."""
    groups = [api_group(group, versions) for group, versions in registry.groups().items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def aggregated(registry: Registry, *, core: bool) -> Obj:
    """The answer of /api or /apis to a client that asks for APIGroupDiscoveryList."""
    items: list[Obj] = []
    for group, versions in registry.groups().items():
        if bool(group) is core:
            continue
        entries = [
            {"version": v, "resources": _aggregated_resources(registry, group, v), "freshness": "Current"}
            for v in versions
        ]
        items.append({"metadata": {"name": group} if group else {}, "versions": entries})
    return {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": items}


def _aggregated_resources(registry: Registry, group: str, wanted: str) -> list[Obj]:
    out: list[Obj] = []
    for resource in registry.all():
        if (resource.group, resource.version) != (group, wanted):
            continue
        entry: Obj = {
            "resource": resource.plural,
            "responseKind": {"group": group, "version": wanted, "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
        }
        if resource.short_names:
            entry["shortNames"] = list(resource.short_names)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        subs: list[Obj] = []
        for subresource in resource.subresources:
            sub_group, sub_version, kind = _sub_kind(resource, subresource)
            subs.append({
                "subresource": subresource,
                "responseKind": {"group": sub_group, "version": sub_version, "kind": kind},
                "verbs": _SUB_VERBS.get(subresource, ["get", "patch", "update"]),
            })  # fmt: skip
        if subs:
            entry["subresources"] = subs
        out.append(entry)
    return sorted(out, key=lambda entry: str(entry["resource"]))
