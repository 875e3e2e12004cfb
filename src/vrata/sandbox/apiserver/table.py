"""The columns of `kubectl get`, as Kubernetes' own printers make them (pkg/printers/internalversion). No I/O."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.selectors import label_selector_text

Cells = list[Any]
Row = Callable[[Obj, datetime], Cells]
_NONE = "<none>"


def human_duration(seconds: float) -> str:
    """`duration.HumanDuration` of apimachinery."""
    s = int(seconds)
    if s < -1:
        return "<invalid>"
    if s < 0:
        return "0s"
    if s < 120:
        return f"{s}s"
    minutes = s // 60
    if minutes < 10:
        return f"{minutes}m" if s % 60 == 0 else f"{minutes}m{s % 60}s"
    if minutes < 180:
        return f"{minutes}m"
    hours = s // 3600
    if hours < 8:
        return f"{hours}h" if minutes % 60 == 0 else f"{hours}h{minutes % 60}m"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d" if hours % 24 == 0 else f"{days}d{hours % 24}h"
    if days < 365 * 2:
        return f"{days}d"
    years = days // 365
    if years < 8:
        return f"{years}y" if days % 365 == 0 else f"{years}y{days % 365}d"
    return f"{years}y"


def since(text: Any, now: datetime) -> str:
    """Age of a timestamp, `<unknown>` without one."""
    if not isinstance(text, str) or not text:
        return "<unknown>"
    try:
        return human_duration((now - datetime.fromisoformat(text)).total_seconds())
    except ValueError:
        return "<unknown>"


def _age(obj: Obj, now: datetime) -> str:
    return since(obj["metadata"].get("creationTimestamp"), now)


def _name(obj: Obj) -> str:
    return str(obj["metadata"]["name"])


def _spec(obj: Obj) -> Obj:
    found: Obj = obj.get("spec") or {}
    return found


def _status(obj: Obj) -> Obj:
    found: Obj = obj.get("status") or {}
    return found


def _pod_reason(obj: Obj) -> str:
    status = _status(obj)
    reason = status.get("reason") or status.get("phase") or "Unknown"
    statuses = status.get("containerStatuses") or []
    running = False
    for container in reversed(statuses):
        state = container.get("state") or {}
        waiting, terminated = state.get("waiting"), state.get("terminated")
        if waiting and waiting.get("reason"):
            reason = waiting["reason"]
        elif terminated and terminated.get("reason"):
            reason = terminated["reason"]
        elif terminated:
            signal = terminated.get("signal")
            reason = f"Signal:{signal}" if signal else f"ExitCode:{terminated.get('exitCode', 0)}"
        elif container.get("ready") and state.get("running") is not None:
            running = True
    if reason == "Completed" and running:
        ready = any(c.get("type") == "Ready" and c.get("status") == "True" for c in status.get("conditions") or [])
        reason = "Running" if ready else "NotReady"
    if obj["metadata"].get("deletionTimestamp"):
        reason = "Unknown" if status.get("reason") == "NodeLost" else "Terminating"
    return str(reason)


def _pod(obj: Obj, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    statuses = status.get("containerStatuses") or []
    ready = sum(1 for c in statuses if c.get("ready") and (c.get("state") or {}).get("running") is not None)
    restarts = sum(c.get("restartCount", 0) for c in statuses)
    last = max(
        (((c.get("lastState") or {}).get("terminated") or {}).get("finishedAt") or "" for c in statuses), default=""
    )
    shown = f"{restarts} ({since(last, now)} ago)" if restarts and last else str(restarts)
    conditions = {c.get("type"): c.get("status") for c in status.get("conditions") or []}
    gates = spec.get("readinessGates") or []
    gates_shown = (
        f"{sum(conditions.get(g.get('conditionType')) == 'True' for g in gates)}/{len(gates)}" if gates else _NONE
    )
    address = status.get("podIP") or next((ip.get("ip") for ip in status.get("podIPs") or []), None)
    return [
        _name(obj), f"{ready}/{len(spec.get('containers') or [])}", _pod_reason(obj), shown, _age(obj, now),
        address or _NONE, spec.get("nodeName") or _NONE, status.get("nominatedNodeName") or _NONE, gates_shown,
    ]  # fmt: skip


def _containers(template: Any) -> tuple[str, str]:
    containers = ((template or {}).get("spec") or {}).get("containers") or []
    return ",".join(c.get("name", "") for c in containers), ",".join(c.get("image", "") for c in containers)


def _deployment(obj: Obj, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    names, images = _containers(spec.get("template"))
    return [
        _name(obj), f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 1)}", status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0), _age(obj, now), names, images, label_selector_text(spec.get("selector")),
    ]  # fmt: skip


def _replicaset(obj: Obj, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    names, images = _containers(spec.get("template"))
    return [
        _name(obj), spec.get("replicas", 1), status.get("replicas", 0), status.get("readyReplicas", 0), _age(obj, now),
        names, images, label_selector_text(spec.get("selector")),
    ]  # fmt: skip


def _daemonset(obj: Obj, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    names, images = _containers(spec.get("template"))
    node_selector = (((spec.get("template") or {}).get("spec") or {}).get("nodeSelector")) or {}
    counts = ("desiredNumberScheduled", "currentNumberScheduled", "numberReady", "updatedNumberScheduled",
              "numberAvailable")  # fmt: skip
    return [
        _name(obj), *(status.get(one, 0) for one in counts),
        ",".join(f"{key}={value}" for key, value in sorted(node_selector.items())) or _NONE, _age(obj, now), names,
        images, label_selector_text(spec.get("selector")),
    ]  # fmt: skip


def _budget(obj: Obj, now: datetime) -> Cells:
    spec = _spec(obj)
    amounts = [str(spec[one]) if one in spec else "N/A" for one in ("minAvailable", "maxUnavailable")]
    return [_name(obj), *amounts, _status(obj).get("disruptionsAllowed", 0), _age(obj, now)]


def _subjects(obj: Obj, kind: str) -> str:
    found = [one for one in obj.get("subjects") or [] if one.get("kind") == kind]
    return ", ".join(f"{one['namespace']}/{one['name']}" if one.get("namespace") else one["name"] for one in found)


def _binding(obj: Obj, now: datetime) -> Cells:
    role = obj.get("roleRef") or {}
    subjects = [_subjects(obj, kind) for kind in ("User", "Group", "ServiceAccount")]
    return [_name(obj), f"{role.get('kind')}/{role.get('name')}", _age(obj, now), *subjects]


def _created(obj: Obj, _now: datetime) -> Cells:
    return [_name(obj), obj["metadata"].get("creationTimestamp")]


def _webhooks(obj: Obj, now: datetime) -> Cells:
    return [_name(obj), len(obj.get("webhooks") or []), _age(obj, now)]


def _ingress_points(status: Obj) -> str:
    points = (status.get("loadBalancer") or {}).get("ingress") or []
    return ",".join(point.get("ip") or point.get("hostname") or "" for point in points)


def _external(spec: Obj, status: Obj) -> str:
    extra = spec.get("externalIPs") or []
    match spec.get("type"):
        case "LoadBalancer":
            points = _ingress_points(status)
            if len(points) > 16 and len(points.split(",")) > 1:
                points = points[:13] + "..."
            if extra:
                points = ",".join(filter(None, [points, *extra]))
            return points or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return ",".join(extra) or _NONE


def _service(obj: Obj, now: datetime) -> Cells:
    spec, status = _spec(obj), _status(obj)
    ports = []
    for port in spec.get("ports") or []:
        number = f"{port.get('port')}:{port['nodePort']}" if port.get("nodePort") else str(port.get("port"))
        ports.append(f"{number}/{port.get('protocol', 'TCP')}")
    selector = ",".join(f"{key}={value}" for key, value in sorted((spec.get("selector") or {}).items()))
    address = spec.get("clusterIP") or next(iter(spec.get("clusterIPs") or []), None)
    return [
        _name(obj), spec.get("type"), address or _NONE, _external(spec, status), ",".join(ports) or _NONE,
        _age(obj, now), selector or _NONE,
    ]  # fmt: skip


def _few(items: list[str], most: int = 3) -> str:
    if len(items) > most:
        return f"{','.join(items[:most])} + {len(items) - most} more..."
    return ",".join(items)


def _ingress(obj: Obj, now: datetime) -> Cells:
    spec = _spec(obj)
    hosts = [rule.get("host") or "*" for rule in spec.get("rules") or []]
    return [
        _name(obj), spec.get("ingressClassName") or _NONE, _few(hosts) or "*", _ingress_points(_status(obj)),
        "80, 443" if spec.get("tls") else "80", _age(obj, now),
    ]  # fmt: skip


def _ingress_class(obj: Obj, now: datetime) -> Cells:
    parameters = _spec(obj).get("parameters")
    shown = _NONE
    if parameters:
        group = parameters.get("apiGroup")
        shown = f"{parameters['kind']}{'.' + group if group else ''}/{parameters['name']}"
    annotations = obj["metadata"].get("annotations") or {}
    default = " (default)" if annotations.get("ingressclass.kubernetes.io/is-default-class") == "true" else ""
    return [_name(obj) + default, _spec(obj).get("controller", ""), shown, _age(obj, now)]


def _endpoints(obj: Obj, now: datetime) -> Cells:
    found = []
    for subset in obj.get("subsets") or []:
        for port in subset.get("ports") or [None]:
            suffix = f":{port['port']}" if port else ""
            found += [f"{address['ip']}{suffix}" for address in subset.get("addresses") or []]
    return [_name(obj), _few(found) or _NONE, _age(obj, now)]


def _slice(obj: Obj, now: datetime) -> Cells:
    ports = [str(port.get("port", "*")) for port in obj.get("ports") or []]
    addresses = [address for endpoint in obj.get("endpoints") or [] for address in endpoint.get("addresses") or []]
    return [
        _name(obj), obj.get("addressType"), _few(ports) or "<unset>", _few(addresses) or "<unset>", _age(obj, now),
    ]  # fmt: skip


def _node(obj: Obj, now: datetime) -> Cells:
    spec, status, meta = _spec(obj), _status(obj), obj["metadata"]
    ready = next((c.get("status") for c in status.get("conditions") or [] if c.get("type") == "Ready"), None)
    state = {"True": "Ready", None: "Unknown"}.get(ready, "NotReady")
    if spec.get("unschedulable"):
        state += ",SchedulingDisabled"
    roles = set()
    for key, value in (meta.get("labels") or {}).items():
        if key.startswith("node-role.kubernetes.io/") and key.rpartition("/")[2]:
            roles.add(key.rpartition("/")[2])
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    addresses = {a.get("type"): a.get("address") for a in reversed(status.get("addresses") or [])}
    info = status.get("nodeInfo") or {}
    return [
        _name(obj), state, ",".join(sorted(roles)) or _NONE, _age(obj, now), info.get("kubeletVersion", ""),
        addresses.get("InternalIP") or _NONE, addresses.get("ExternalIP") or _NONE, info.get("osImage") or "<unknown>",
        info.get("kernelVersion") or "<unknown>", info.get("containerRuntimeVersion") or "<unknown>",
    ]  # fmt: skip


def _event(obj: Obj, now: datetime) -> Cells:
    about = obj.get("involvedObject") or {}
    source, series = obj.get("source") or {}, obj.get("series") or {}
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count = obj.get("count") or 0
    if series:
        last, count = since(series.get("lastObservedTime"), now), series.get("count", 0)
    elif not count:
        count = 1
    component = source.get("component") or obj.get("reportingComponent") or ""
    host = source.get("host") or obj.get("reportingInstance") or ""
    target = (
        f"{str(about.get('kind', '')).lower()}/{about['name']}" if about.get("name") else str(about.get("kind", ""))
    )
    return [
        last, obj.get("type", ""), obj.get("reason", ""), target, about.get("fieldPath", ""),
        ", ".join(filter(None, (component, host))), str(obj.get("message", "")).strip(), first, count, _name(obj),
    ]  # fmt: skip


def _network_policy(obj: Obj, now: datetime) -> Cells:
    return [_name(obj), label_selector_text(_spec(obj).get("podSelector") or {}) or _NONE, _age(obj, now)]


def _lease(obj: Obj, now: datetime) -> Cells:
    return [_name(obj), _spec(obj).get("holderIdentity", ""), _age(obj, now)]


_COLUMNS: Final[dict[str, tuple[str, Row]]] = {
    "Pod": ("Name|Ready|Status|Restarts|Age|IP+|Node+|Nominated Node+|Readiness Gates+", _pod),
    "Deployment": ("Name|Ready|Up-to-date#|Available#|Age|Containers+|Images+|Selector+", _deployment),
    "ReplicaSet": ("Name|Desired#|Current#|Ready#|Age|Containers+|Images+|Selector+", _replicaset),
    "Service": ("Name|Type|Cluster-IP|External-IP|Port(s)|Age|Selector+", _service),
    "Ingress": ("Name|Class|Hosts|Address|Ports|Age", _ingress),
    "IngressClass": ("Name|Controller|Parameters|Age", _ingress_class),
    "NetworkPolicy": ("Name|Pod-Selector|Age", _network_policy),
    "Endpoints": ("Name|Endpoints|Age", _endpoints),
    "EndpointSlice": ("Name|AddressType|Ports|Endpoints|Age", _slice),
    "Node": (
        "Name|Status|Roles|Age|Version|Internal-IP+|External-IP+|OS-Image+|Kernel-Version+|Container-Runtime+",
        _node,
    ),
    "Event": ("Last Seen|Type|Reason|Object|Subobject+|Source+|Message|First Seen+|Count+#|Name+", _event),
    "Namespace": ("Name|Status|Age", lambda o, now: [_name(o), _status(o).get("phase", ""), _age(o, now)]),
    "Secret": (
        "Name|Type|Data#|Age",
        lambda o, now: [_name(o), o.get("type", ""), len(o.get("data") or {}), _age(o, now)],
    ),
    "ConfigMap": (
        "Name|Data#|Age",
        lambda o, now: [_name(o), len(o.get("data") or {}) + len(o.get("binaryData") or {}), _age(o, now)],
    ),
    "ServiceAccount": ("Name|Secrets#|Age", lambda o, now: [_name(o), len(o.get("secrets") or []), _age(o, now)]),
    "Lease": ("Name|Holder|Age", _lease),
    "DaemonSet": (
        "Name|Desired#|Current#|Ready#|Up-to-date#|Available#|Node Selector|Age|Containers+|Images+|Selector+",
        _daemonset,
    ),
    "PodDisruptionBudget": ("Name|Min Available|Max Unavailable|Allowed Disruptions#|Age", _budget),
    "Role": ("Name|Created At", _created),
    "ClusterRole": ("Name|Created At", _created),
    "RoleBinding": ("Name|Role|Age|Users+|Groups+|ServiceAccounts+", _binding),
    "ClusterRoleBinding": ("Name|Role|Age|Users+|Groups+|ServiceAccounts+", _binding),
    "ValidatingWebhookConfiguration": ("Name|Webhooks#|Age", _webhooks),
    "CustomResourceDefinition": ("Name|Created At", _created),
}


def _definition(text: str) -> Obj:
    name = text.rstrip("+#")
    return {
        "name": name,
        "type": "integer" if "#" in text else "string",
        "format": "name" if name == "Name" else "",
        "description": "",
        "priority": 1 if "+" in text else 0,
    }


_JSONPATH_PART = re.compile(r"\.?([\w-]+|\['[^']+'\])|\[(\?\(@\.[\w.]+\s*==\s*[\"'][^\"']*[\"']\)|\d+|\*)\]")


def json_path(obj: Any, path: str) -> list[Any]:
    """The values at a simple JSONPath (`.a.b[0]`, `[*]`, `[?(@.type=="Ready")].status`)."""
    nodes = [obj]
    for match in _JSONPATH_PART.finditer(path.replace("\\.", "\x00")):
        key, bracket = match[1], match[2]
        found: list[Any] = []
        for node in nodes:
            if key:
                name = (key[2:-2] if key.startswith("['") else key).replace("\x00", ".")
                found += [node[name]] if isinstance(node, dict) and name in node else []
            elif isinstance(node, list):
                found += _indexed(node, bracket)
        nodes = found
    return nodes


def _indexed(node: list[Any], bracket: str) -> list[Any]:
    if bracket == "*":
        return node
    if bracket.isdigit():
        return node[int(bracket) : int(bracket) + 1]
    match = re.match(r"\?\(@\.([\w.]+)\s*==\s*[\"']([^\"']*)[\"']\)", bracket)
    assert match
    return [item for item in node if isinstance(item, dict) and str(item.get(match[1])) == match[2]]


def _custom_cell(obj: Obj, column: Obj, now: datetime) -> Any:
    values = json_path(obj, column["jsonPath"])
    if not values:
        return None
    value = values[0]
    if column["type"] == "date":
        return since(value, now)
    if column["type"] == "string" and not isinstance(value, str):
        return ",".join(str(v) for v in values)
    return value


def _custom(resource: Resource, now: datetime) -> tuple[list[Obj], Callable[[Obj], Cells]]:
    extra = resource.columns or ({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},)
    definitions = [_definition("Name")] + [
        {"name": c["name"], "type": c["type"], "format": c.get("format", ""), "description": c.get("description", ""),
         "priority": c.get("priority", 0)}
        for c in extra
    ]  # fmt: skip
    return definitions, lambda obj: [_name(obj), *(_custom_cell(obj, column, now) for column in extra)]


def render_table(resource: Resource, objects: list[Obj], now: datetime, include: str, meta: Obj) -> Obj:
    """A meta.k8s.io/v1 Table; `include` is Metadata, Object or None, as the query parameter includeObject."""
    if resource.crd or resource.kind not in _COLUMNS:
        definitions, row = _custom(resource, now)
    else:
        header, cells = _COLUMNS[resource.kind]
        definitions = [_definition(text) for text in header.split("|")]

        def row(obj: Obj) -> Cells:
            return cells(obj, now)

    rows = []
    for obj in objects:
        entry: Obj = {"cells": row(obj)}
        if include == "Object":
            entry["object"] = obj
        elif include != "None":
            entry["object"] = {
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": obj["metadata"],
            }  # fmt: skip
        rows.append(entry)
    return {
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "columnDefinitions": definitions,
        "rows": rows,
    }  # fmt: skip
