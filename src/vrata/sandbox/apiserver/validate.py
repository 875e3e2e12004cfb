"""What the built-in kinds demand beyond their schemas, in the words of Kubernetes' validation. No I/O."""

import ipaddress
import re
from collections.abc import Iterable
from typing import Any

from vrata.sandbox.apiserver.errors import Cause, Obj, duplicate, forbidden_field, invalid, not_supported, required
from vrata.sandbox.apiserver.fields import validate, validate_custom
from vrata.sandbox.apiserver.names import (
    CONFIG_KEY,
    CONFIG_KEY_SAID,
    LABEL,
    LABEL_SAID,
    SUBDOMAIN,
    SUBDOMAIN_SAID,
    VALUE,
    VALUE_SAID,
    label_key_said,
    port_name_said,
)
from vrata.sandbox.apiserver.resources import Resource
from vrata.sandbox.apiserver.selectors import label_selector_matches
from vrata.sandbox.apiserver.validate_net import (
    validate_ingress,
    validate_ingress_class,
    validate_network_policy,
    validate_service,
)

ANNOTATIONS_MAX = 256 * 1024


def validate_object(  # noqa: PLR0912 -- a table of kinds
    resource: Resource, obj: Obj, old: Obj | None
) -> list[Cause]:
    """All that is wrong with an object about to be stored (and, with `old`, with the change)."""
    causes = validate_metadata(resource, obj)
    if old is not None:
        causes += _metadata_update(obj["metadata"], old["metadata"])
    if resource.crd:
        return causes + validate_custom(resource.schema, obj)
    causes += validate(resource.schema, obj)
    spec = obj.get("spec") or {}
    before = (old or {}).get("spec") or {}
    match resource.kind:
        case "Pod":
            causes += _pod_spec(spec, "spec")
            if old is not None:
                causes += _pod_update(spec, before)
        case "Deployment" | "ReplicaSet" | "DaemonSet":
            causes += _workload(resource.kind, obj, old)
        case "Service":
            causes += validate_service(obj, old)
        case "Ingress":
            causes += validate_ingress(obj, old)
        case "IngressClass":
            causes += validate_ingress_class(spec, before if old else None)
        case "NetworkPolicy":
            causes += validate_network_policy(spec)
        case "RoleBinding" | "ClusterRoleBinding":
            causes += _binding(resource.kind, obj, old)
        case "PodDisruptionBudget":
            if None not in (spec.get("minAvailable"), spec.get("maxUnavailable")):
                said = "minAvailable and maxUnavailable cannot be both set"
                causes.append(invalid("spec", "PodDisruptionBudgetSpec", said))
        case "ConfigMap" | "Secret":
            causes += _data(resource.kind, obj, old)
        case "EndpointSlice":
            causes += _slice(obj, old)
        case "Endpoints":
            causes += _endpoints(obj)
        case "Lease":
            for key in ("leaseDurationSeconds", "leaseTransitions"):
                causes += _positive(spec, key, 1 if key == "leaseDurationSeconds" else 0)
    return causes


def _positive(spec: Obj, key: str, least: int) -> list[Cause]:
    value = spec.get(key)
    if isinstance(value, int) and value < least:
        said = "must be greater than 0" if least else "must be greater than or equal to 0"
        return [invalid(f"spec.{key}", value, said)]
    return []


_LABEL_NAMED = frozenset(("Namespace", "Service"))
_SUBDOMAIN_EXCEPT = frozenset(("Event",))


def name_said(resource: Resource, name: str, *, prefix: bool = False) -> str:
    """Why this is no name for the kind; empty if it is one. `prefix`: of a generateName."""
    probe = f"{name}a" if prefix and name.endswith(("-", ".")) else name
    if resource.kind in _LABEL_NAMED and not resource.crd:
        if len(probe) > 63:
            return "must be no more than 63 characters"
        return "" if LABEL.match(probe) else LABEL_SAID
    if len(probe) > 253:
        return "must be no more than 253 characters"
    return "" if SUBDOMAIN.match(probe) else SUBDOMAIN_SAID


def validate_labels(labels: Any, path: str) -> list[Cause]:
    """Keys and values of labels."""
    causes = []
    for key, value in (labels or {}).items():
        if said := label_key_said(key):
            causes.append(invalid(path, key, said))
        if len(value) > 63:
            causes.append(invalid(path, value, "must be no more than 63 characters"))
        elif not VALUE.match(value):
            causes.append(invalid(path, value, VALUE_SAID))
    return causes


def validate_metadata(resource: Resource, obj: Obj) -> list[Cause]:
    """Name, labels, annotations, owners and finalizers."""
    meta = obj["metadata"]
    causes = []
    if not meta.get("name"):
        causes.append(required("metadata.name", "name or generateName is required"))
    elif said := name_said(resource, meta["name"]):
        causes.append(invalid("metadata.name", meta["name"], said))
    causes += validate_labels(meta.get("labels"), "metadata.labels")
    annotations = meta.get("annotations") or {}
    for key in annotations:
        if said := label_key_said(key.lower()):
            causes.append(invalid("metadata.annotations", key, said))
    size = sum(len(key) + len(value) for key, value in annotations.items())
    if size > ANNOTATIONS_MAX:
        causes.append(
            Cause(
                "FieldValueTooLong", "metadata.annotations", f"Too long: may not be more than {ANNOTATIONS_MAX} bytes"
            )
        )
    controllers = 0
    for i, owner in enumerate(meta.get("ownerReferences") or []):
        controllers += bool(owner.get("controller"))
        for key in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(key):
                causes.append(invalid(f"metadata.ownerReferences[{i}].{key}", "", f"{key} must not be empty"))
    if controllers > 1:
        causes.append(
            invalid("metadata.ownerReferences", controllers, "Only one reference can have Controller set to true")
        )
    for i, finalizer in enumerate(meta.get("finalizers") or []):
        if said := label_key_said(finalizer):
            causes.append(invalid(f"metadata.finalizers[{i}]", finalizer, said))
    return causes


def _metadata_update(meta: Obj, before: Obj) -> list[Cause]:
    if before.get("deletionTimestamp"):
        extra = set(meta.get("finalizers") or []) - set(before.get("finalizers") or [])
        if extra:
            said = "no new finalizers can be added if the object is being deleted, found new finalizers "
            return [forbidden_field("metadata.finalizers", said + str(sorted(extra)).replace("'", '"'))]
    return []


def _pod_spec(spec: Obj, path: str) -> list[Cause]:
    causes: list[Cause] = []
    names: set[str] = set()
    volumes = {volume.get("name") for volume in spec.get("volumes") or []}
    for group in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(group) or []):
            at = f"{path}.{group}[{i}]"
            name = container.get("name", "")
            if name and not (LABEL.match(name) and len(name) <= 63):
                causes.append(invalid(f"{at}.name", name, LABEL_SAID))
            if name in names:
                causes.append(duplicate(f"{at}.name", name))
            names.add(name)
            if not container.get("image"):
                causes.append(required(f"{at}.image"))
            causes += _container(container, at, volumes)
    causes += validate_labels(spec.get("nodeSelector"), f"{path}.nodeSelector")
    grace = spec.get("terminationGracePeriodSeconds")
    if isinstance(grace, int) and grace < 0:
        causes.append(invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"))
    return causes


def _container(container: Obj, at: str, volumes: set[Any]) -> list[Cause]:
    causes: list[Cause] = []
    port_names: set[str] = set()
    for j, port in enumerate(container.get("ports") or []):
        number = port.get("containerPort")
        if not number:
            causes.append(required(f"{at}.ports[{j}].containerPort"))
        elif not 0 < number < 65536:
            causes.append(invalid(f"{at}.ports[{j}].containerPort", number, "must be between 1 and 65535, inclusive"))
        if name := port.get("name"):
            causes += [invalid(f"{at}.ports[{j}].name", name, said) for said in port_name_said(name)]
            if name in port_names:
                causes.append(duplicate(f"{at}.ports[{j}].name", name))
            port_names.add(name)
    env_names = container.get("env") or []
    for j, env in enumerate(env_names):
        if env.get("value") and env.get("valueFrom"):
            causes.append(invalid(f"{at}.env[{j}].valueFrom", "", "may not be specified when `value` is not empty"))
    for j, mount in enumerate(container.get("volumeMounts") or []):
        if mount.get("name") and mount["name"] not in volumes:
            causes.append(Cause("FieldValueNotFound", f"{at}.volumeMounts[{j}].name", f'Not found: "{mount["name"]}"'))
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        found = container.get(probe)
        if isinstance(found, dict):
            causes += _probe(found, f"{at}.{probe}", ready=probe == "readinessProbe")
    return causes


def _probe(probe: Obj, at: str, *, ready: bool) -> list[Cause]:
    causes = []
    handlers = [key for key in ("exec", "httpGet", "tcpSocket", "grpc") if key in probe]
    if not handlers:
        causes.append(required(at, "must specify a handler type"))
    causes += [
        forbidden_field(f"{at}.{handler}", "may not specify more than 1 handler type") for handler in handlers[1:]
    ]
    for key in ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"):
        if isinstance(probe.get(key), int) and probe[key] < 0:
            causes.append(invalid(f"{at}.{key}", probe[key], "must be greater than or equal to 0"))
    if not ready and probe.get("successThreshold", 1) != 1:
        causes.append(invalid(f"{at}.successThreshold", probe["successThreshold"], "must be 1"))
    return causes


_POD_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def _pod_update(spec: Obj, before: Obj) -> list[Cause]:
    def frozen(value: Obj) -> Obj:
        kept = {key: item for key, item in value.items() if key not in _POD_MUTABLE}
        for group in ("containers", "initContainers"):
            kept[group] = [{k: v for k, v in c.items() if k != "image"} for c in value.get(group) or []]
        if not before.get("nodeName"):
            kept.pop("nodeName", None)  # bindings come as updates too
        return kept

    if frozen(spec) == frozen(before):
        return []
    said = (
        "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
        "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
    )
    return [forbidden_field("spec", said)]


def _binding(kind: str, obj: Obj, old: Obj | None) -> list[Cause]:
    causes = []
    role = obj.get("roleRef") or {}
    if old is not None and old.get("roleRef") != role:
        causes.append(invalid("roleRef", role, "cannot change roleRef"))
    kinds = ["Role", "ClusterRole"] if kind == "RoleBinding" else ["ClusterRole"]
    if role.get("kind") not in kinds:
        causes.append(not_supported("roleRef.kind", role.get("kind", ""), kinds))
    for i, subject in enumerate(obj.get("subjects") or []):
        if subject.get("kind") == "ServiceAccount" and not subject.get("namespace"):
            causes.append(required(f"subjects[{i}].namespace"))
    return causes


def _percent(value: Any) -> int | None:
    match = re.fullmatch(r"(\d+)%", value) if isinstance(value, str) else None
    return int(match[1]) if match else None


def _workload(kind: str, obj: Obj, old: Obj | None) -> list[Cause]:
    spec = obj.get("spec") or {}
    causes = []
    for key in ("replicas", "minReadySeconds", "revisionHistoryLimit"):
        value = spec.get(key)
        if isinstance(value, int) and value < 0:
            causes.append(invalid(f"spec.{key}", value, "must be greater than or equal to 0"))
    selector = spec.get("selector")
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    if not selector:
        causes.append(required("spec.selector"))
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        causes.append(invalid("spec.selector", {}, f"empty selector is invalid for {kind.lower()}"))
    else:
        causes += validate_labels(selector.get("matchLabels"), "spec.selector.matchLabels")
        causes += _expressions(selector.get("matchExpressions") or [])
        if not label_selector_matches(selector, labels):
            causes.append(
                invalid("spec.template.metadata.labels", labels, "`selector` does not match template `labels`")
            )
    causes += validate_labels(labels, "spec.template.metadata.labels")
    pod = template.get("spec")
    if not isinstance(pod, dict) or not pod.get("containers"):
        causes += [] if isinstance(pod, dict) else [required("spec.template.spec.containers")]
    if isinstance(pod, dict):
        causes += _pod_spec(pod, "spec.template.spec")
        if pod.get("restartPolicy") not in (None, "Always"):
            causes.append(not_supported("spec.template.spec.restartPolicy", pod["restartPolicy"], ["Always"]))
    if kind == "Deployment":
        causes += _strategy(spec)
    if old is not None and (old.get("spec") or {}).get("selector") != selector:
        causes.append(invalid("spec.selector", selector, "field is immutable"))
    return causes


def _expressions(rules: list[Obj]) -> list[Cause]:
    causes = []
    for i, rule in enumerate(rules):
        at = f"spec.selector.matchExpressions[{i}]"
        operator, values = rule.get("operator"), rule.get("values")
        if operator in ("In", "NotIn") and not values:
            causes.append(required(f"{at}.values", "must be specified when `operator` is 'In' or 'NotIn'"))
        elif operator in ("Exists", "DoesNotExist") and values:
            said = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            causes.append(forbidden_field(f"{at}.values", said))
        elif operator and operator not in ("In", "NotIn", "Exists", "DoesNotExist"):
            causes.append(invalid(f"{at}.operator", operator, "not a valid selector operator"))
    return causes


_PERCENT_SAID = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for "
    "validation is '[0-9]+%')"
)


def _strategy(spec: Obj) -> list[Cause]:
    causes = []
    strategy = spec.get("strategy") or {}
    rolling, kind = strategy.get("rollingUpdate"), strategy.get("type")
    if kind not in (None, "Recreate", "RollingUpdate"):
        # The value as Kubernetes' internal type prints it.
        shown = {
            "Type": kind,
            "RollingUpdate": rolling and {key[:1].upper() + key[1:]: rolling[key] for key in rolling},
        }
        return [not_supported("spec.strategy", shown, ["Recreate", "RollingUpdate"])]
    if strategy.get("type") == "Recreate" and rolling is not None:
        said = "may not be specified when strategy `type` is 'Recreate'"
        return [forbidden_field("spec.strategy.rollingUpdate", said)]
    amounts = {}
    for key in ("maxUnavailable", "maxSurge"):
        value = (rolling or {}).get(key)
        at = f"spec.strategy.rollingUpdate.{key}"
        if isinstance(value, int) and value < 0:
            causes.append(invalid(at, value, "must be greater than or equal to 0"))
        elif isinstance(value, str) and _percent(value) is None:
            causes.append(invalid(at, value, _PERCENT_SAID))
        amounts[key] = _percent(value) if isinstance(value, str) else value
    if rolling is not None and amounts["maxUnavailable"] == 0 and amounts["maxSurge"] == 0:
        causes.append(invalid("spec.strategy.rollingUpdate.maxUnavailable", rolling["maxUnavailable"],
                              "may not be 0 when `maxSurge` is 0"))  # fmt: skip
    deadline, ready = spec.get("progressDeadlineSeconds"), spec.get("minReadySeconds") or 0
    if isinstance(deadline, int) and deadline <= ready:
        causes.append(invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds"))
    return causes


def _data(kind: str, obj: Obj, old: Obj | None) -> list[Cause]:
    causes = []
    for part in ("data", "binaryData"):
        for key in obj.get(part) or {}:
            good = CONFIG_KEY.match(key) and len(key) <= 253 and key not in (".", "..")
            causes += [] if good else [invalid(f"{part}[{key}]", key, CONFIG_KEY_SAID)]
    if kind == "Secret" and obj.get("type") == "kubernetes.io/tls":
        data = obj.get("data") or {}
        causes += [required(f"data[{key}]") for key in ("tls.crt", "tls.key") if key not in data]
    if old is None:
        return causes
    if kind == "Secret" and obj.get("type") != old.get("type"):
        causes.append(invalid("type", obj.get("type"), "field is immutable"))
    if old.get("immutable"):
        if not obj.get("immutable"):
            causes.append(forbidden_field("immutable", "field is immutable when `immutable` is set"))
        if any(obj.get(part) != old.get(part) for part in ("data", "binaryData")):
            causes.append(forbidden_field("data", "field is immutable when `immutable` is set"))
    return causes


def _addresses(values: Iterable[Any], at: str, version: int | None) -> list[Cause]:
    causes = []
    for j, value in enumerate(values):
        try:
            address = ipaddress.ip_address(value)
        except ValueError:
            causes.append(invalid(f"{at}[{j}]", value, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"))
            continue
        if version and address.version != version:
            causes.append(invalid(f"{at}[{j}]", value, f"must be an IPv{version} address"))
    return causes


def _slice(obj: Obj, old: Obj | None) -> list[Cause]:
    causes = []
    if not obj.get("addressType"):
        causes.append(required("addressType"))
    elif old is not None and old.get("addressType") != obj["addressType"]:
        causes.append(invalid("addressType", obj["addressType"], "field is immutable"))
    version = {"IPv4": 4, "IPv6": 6}.get(obj.get("addressType", ""))
    for i, endpoint in enumerate(obj.get("endpoints") or []):
        addresses = endpoint.get("addresses") or []
        if version and addresses:
            causes += _addresses(addresses, f"endpoints[{i}].addresses", version)
    names = [port.get("name", "") for port in obj.get("ports") or []]
    causes += [duplicate(f"ports[{i}].name", name) for i, name in enumerate(names) if name in names[:i]]
    return causes


def _endpoints(obj: Obj) -> list[Cause]:
    causes = []
    for i, subset in enumerate(obj.get("subsets") or []):
        if not subset.get("addresses") and not subset.get("notReadyAddresses"):
            causes.append(required(f"subsets[{i}]", "must specify `addresses` or `notReadyAddresses`"))
        for part in ("addresses", "notReadyAddresses"):
            for j, address in enumerate(subset.get(part) or []):
                at = f"subsets[{i}].{part}[{j}].ip"
                causes += [Cause(c.reason, at, c.message) for c in _addresses([address.get("ip", "")], at, None)]
    return causes
