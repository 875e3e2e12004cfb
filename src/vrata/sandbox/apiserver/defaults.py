"""Defaults that depend on other fields; the constant ones stand in the schemas. No I/O."""

import base64
from typing import Any

from vrata.sandbox.apiserver.errors import Obj
from vrata.sandbox.apiserver.fields import fill_defaults
from vrata.sandbox.apiserver.resources import Resource


def set_defaults(resource: Resource, obj: Obj) -> None:  # noqa: PLR0912, PLR0915 -- a table of kinds
    """Fill in what Kubernetes fills in when it decodes this kind, in place."""
    if resource.crd:
        fill_defaults(resource.schema, obj)
        return
    spec = obj.get("spec")
    if resource.kind in ("Service", "Deployment", "ReplicaSet", "DaemonSet", "Pod") and not isinstance(spec, dict):
        spec = obj["spec"] = {}
    fill_defaults(resource.schema, obj)
    match resource.kind:
        case "Pod":
            _pod_spec(obj["spec"])
            _pod(obj)
        case "Deployment":
            _deployment(obj["spec"])
            obj.setdefault("status", {})
        case "Ingress":
            obj.setdefault("status", {}).setdefault("loadBalancer", {})
        case "ReplicaSet":
            _pod_spec((obj["spec"].get("template") or {}).get("spec"))
            obj.setdefault("status", {}).setdefault("replicas", 0)
        case "DaemonSet":
            strategy = obj["spec"].get("updateStrategy")
            if (
                isinstance(strategy, dict)
                and strategy.get("type") == "RollingUpdate"
                and "rollingUpdate" not in strategy
            ):
                strategy["rollingUpdate"] = {"maxUnavailable": 1, "maxSurge": 0}
            _pod_spec((obj["spec"].get("template") or {}).get("spec"))
            zero = ("currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady")
            obj["status"] = dict.fromkeys(zero, 0) | (obj.get("status") or {})
        case "PodDisruptionBudget":
            zero = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
            obj["status"] = dict.fromkeys(zero, 0) | (obj.get("status") or {})
        case "RoleBinding" | "ClusterRoleBinding":
            for subject in obj.get("subjects") or []:
                if subject.get("kind") in ("User", "Group"):
                    subject.setdefault("apiGroup", "rbac.authorization.k8s.io")
        case "Secret":
            _secret(obj)
        case "Namespace":
            obj["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = obj["metadata"].get("name", "")
            obj.setdefault("spec", {}).setdefault("finalizers", ["kubernetes"])
            obj.setdefault("status", {}).setdefault("phase", "Active")
        case "Service":
            _service(obj["spec"])
            obj.setdefault("status", {}).setdefault("loadBalancer", {})
            for entry in ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress") or []:
                if entry.get("ip"):
                    entry.setdefault("ipMode", "VIP")
        case "IngressClass":
            parameters = (spec or {}).get("parameters")
            if parameters:
                parameters.setdefault("scope", "Cluster")
        case "NetworkPolicy":
            # As the field's documentation says: always Ingress; Egress where there are rules for it.
            policy = obj.setdefault("spec", {})
            policy["policyTypes"] = policy.get("policyTypes") or [
                "Ingress",
                *(["Egress"] if policy.get("egress") else []),
            ]
        case "Node":
            if spec and spec.get("podCIDR") and not spec.get("podCIDRs"):
                spec["podCIDRs"] = [spec["podCIDR"]]
        case "CustomResourceDefinition":
            _crd(obj)


def _deployment(spec: Obj) -> None:
    strategy = spec.get("strategy")
    if isinstance(strategy, dict) and strategy.get("type") == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    _pod_spec((spec.get("template") or {}).get("spec"))


def _pull_policy(image: str) -> str:
    name = image.rsplit("/", 1)[-1]
    tag = "" if "@" in image else name.partition(":")[2] or "latest"
    return "Always" if tag == "latest" else "IfNotPresent"


def _pod_spec(spec: Any) -> None:
    if not isinstance(spec, dict):
        return
    for container in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        container.setdefault("imagePullPolicy", _pull_policy(container.get("image", "")))
        resources = container.get("resources") or {}
        for name, amount in (resources.get("limits") or {}).items():
            resources.setdefault("requests", {}).setdefault(name, amount)
        if spec.get("hostNetwork"):
            for port in container.get("ports") or []:
                port.setdefault("hostPort", port.get("containerPort"))
    for volume in spec.get("volumes") or []:
        if set(volume) == {"name"}:
            volume["emptyDir"] = {}
    account = spec.get("serviceAccountName") or spec.get("serviceAccount")
    if account:
        spec["serviceAccountName"] = spec["serviceAccount"] = account


def _pod(obj: Obj) -> None:
    spec = obj["spec"]
    # The ServiceAccount admission plugin's part.
    spec.setdefault("serviceAccountName", "default")
    spec.setdefault("serviceAccount", spec["serviceAccountName"])
    spec.setdefault("enableServiceLinks", True)
    status = obj.setdefault("status", {})
    status.setdefault("phase", "Pending")
    status.setdefault("qosClass", _qos(spec))


def _qos(spec: Obj) -> str:
    guaranteed, best_effort = True, True
    for container in spec.get("containers") or []:
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        best_effort = best_effort and not limits and not requests
        guaranteed = guaranteed and {"cpu", "memory"} <= set(limits) and limits == requests
    if best_effort:
        return "BestEffort"
    return "Guaranteed" if guaranteed else "Burstable"


def _secret(obj: Obj) -> None:
    plain = obj.pop("stringData", None)
    if plain:
        data = obj.setdefault("data", {})
        for key, text in plain.items():
            data[key] = base64.b64encode(text.encode()).decode()


def _service(spec: Obj) -> None:
    kind = spec.get("type")
    for port in spec.get("ports") or []:
        if port.get("targetPort") in (None, 0, "") and "port" in port:
            port["targetPort"] = port["port"]
        if port.get("nodePort") == 0:
            del port["nodePort"]
    if spec.get("sessionAffinity") == "ClientIP":
        client = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        client.setdefault("timeoutSeconds", 10800)
    elif spec.get("sessionAffinity") == "None":
        spec.pop("sessionAffinityConfig", None)
    if kind in ("NodePort", "LoadBalancer"):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")


def _crd(obj: Obj) -> None:
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    kind = names.get("kind") or ""
    if kind:
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {"strategy": "None"})
