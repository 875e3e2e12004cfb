"""Validation of Services, Ingresses and IngressClasses, in Kubernetes' words. No I/O."""

import ipaddress
import re
from typing import Any

from vrata.sandbox.apiserver.errors import (
    Cause,
    Obj,
    duplicate,
    forbidden_field,
    invalid,
    not_supported,
    required,
    type_invalid,
)
from vrata.sandbox.apiserver.names import LABEL, LABEL_SAID, SUBDOMAIN, SUBDOMAIN_SAID, WILDCARD_SAID

_PORT_SAID = "must be between 1 and 65535, inclusive"
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and 0 < value < 65536


def validate_service(obj: Obj, old: Obj | None) -> list[Cause]:
    """Ports, type and addresses of a Service, and what may not change."""
    spec = obj.get("spec") or {}
    causes = _service_ports(spec)
    kind = spec.get("type")
    causes += _service_type(spec, kind)
    for key, value in (spec.get("selector") or {}).items():
        if not re.match(r"([a-z0-9.-]+/)?[A-Za-z0-9][-A-Za-z0-9_.]*\Z", key):
            causes.append(invalid("spec.selector", key, "not a valid label key"))
        if len(value) > 63:
            causes.append(invalid("spec.selector", value, "must be no more than 63 characters"))
    causes += _service_networks(spec)
    timeout = ((spec.get("sessionAffinityConfig") or {}).get("clientIP") or {}).get("timeoutSeconds")
    if timeout is not None and not 0 < timeout <= 86400:
        at = "spec.sessionAffinityConfig.clientIP.timeoutSeconds"
        causes.append(invalid(at, timeout, "must be greater than 0 and less than 86400"))
    if old is not None:
        causes += _service_update(spec, old.get("spec") or {})
    return causes


def _service_type(spec: Obj, kind: str | None) -> list[Cause]:
    """What only some types of Service can have."""
    causes: list[Cause] = []
    if kind == "ExternalName":
        name = spec.get("externalName", "").rstrip(".")
        if not name:
            causes.append(required("spec.externalName"))
        elif not SUBDOMAIN.match(name):
            causes.append(invalid("spec.externalName", name, SUBDOMAIN_SAID))
        if spec.get("clusterIP"):
            causes.append(forbidden_field("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"))
    if kind in ("NodePort", "LoadBalancer") and spec.get("clusterIP") == "None":
        causes.append(invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services"))
    if kind not in ("NodePort", "LoadBalancer") and spec.get("externalTrafficPolicy") and not spec.get("externalIPs"):
        said = "may only be set for externally-accessible services"
        causes.append(invalid("spec.externalTrafficPolicy", spec["externalTrafficPolicy"], said))
    if spec.get("healthCheckNodePort") and not (
        kind == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"
    ):
        said = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        causes.append(invalid("spec.healthCheckNodePort", spec["healthCheckNodePort"], said))
    if kind != "LoadBalancer":
        given = [key for key in ("allocateLoadBalancerNodePorts", "loadBalancerClass") if spec.get(key) is not None]
        causes += [forbidden_field(f"spec.{key}", "may only be used when `type` is 'LoadBalancer'") for key in given]
    return causes


def _service_networks(spec: Obj) -> list[Cause]:
    causes = []
    for i, cidr in enumerate(spec.get("loadBalancerSourceRanges") or []):
        try:
            ipaddress.ip_network(cidr.strip(), strict=False)
        except ValueError:
            said = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(invalid(f"spec.loadBalancerSourceRanges[{i}]", cidr, said))
    for i, address in enumerate(spec.get("externalIPs") or []):
        try:
            ipaddress.ip_address(address)
        except ValueError:
            said = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
            causes.append(invalid(f"spec.externalIPs[{i}]", address, said))
    families = spec.get("ipFamilies") or []
    for i, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            causes.append(not_supported(f"spec.ipFamilies[{i}]", family, ["IPv4", "IPv6"]))
    return causes


def _service_ports(spec: Obj) -> list[Cause]:
    ports = spec.get("ports") or []
    causes: list[Cause] = []
    if not ports and spec.get("type") != "ExternalName" and spec.get("clusterIP") != "None":
        causes.append(required("spec.ports"))
    names: list[str] = []
    seen: list[tuple[Any, Any]] = []
    held: list[tuple[Any, Any]] = []
    for i, port in enumerate(ports):
        at = f"spec.ports[{i}]"
        name = port.get("name", "")
        if not name and len(ports) > 1:
            causes.append(required(f"{at}.name"))
        elif name and not (LABEL.match(name) and len(name) <= 63):
            causes.append(invalid(f"{at}.name", name, LABEL_SAID))
        elif name and name in names:
            causes.append(duplicate(f"{at}.name", name))
        names.append(name)
        if port.get("port") is not None and not _is_port(port["port"]):
            causes.append(invalid(f"{at}.port", port["port"], _PORT_SAID))
        target = port.get("targetPort")
        if isinstance(target, int) and not _is_port(target):
            causes.append(invalid(f"{at}.targetPort", target, _PORT_SAID))
        elif isinstance(target, str) and (
            len(target) > 15 or not re.match(r"(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z", target)
        ):
            said = "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
            if len(target) > 15:
                said = "must be no more than 15 characters"
            causes.append(invalid(f"{at}.targetPort", target, said))
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            causes.append(duplicate(at, {"port": port.get("port"), "protocol": port.get("protocol")}))
        seen.append(key)
        node = (port.get("protocol"), port.get("nodePort"))
        if node[1] and node in held:
            causes.append(duplicate(f"{at}.nodePort", node[1]))
        held.append(node)
    return causes


def _service_update(spec: Obj, before: Obj) -> list[Cause]:
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return []
    causes = []
    if before.get("clusterIP") and spec.get("clusterIP") != before["clusterIP"]:
        causes.append(invalid("spec.clusterIPs[0]", [spec.get("clusterIP")], "may not change once set"))
    same_class = spec.get("loadBalancerClass") == before.get("loadBalancerClass")
    if before.get("type") == spec.get("type") == "LoadBalancer" and not same_class:
        said = "may not change once set"
        causes.append(invalid("spec.loadBalancerClass", spec.get("loadBalancerClass"), said))
    return causes


def validate_ingress(obj: Obj) -> list[Cause]:
    """Hosts, paths, backends and TLS of an Ingress."""
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    if not spec.get("rules") and not spec.get("defaultBackend"):
        causes.append(invalid("spec", spec, "either `defaultBackend` or `rules` must be specified"))
    if "defaultBackend" in spec:
        causes += _backend(spec["defaultBackend"], "spec.defaultBackend")
    for i, rule in enumerate(spec.get("rules") or []):
        at = f"spec.rules[{i}]"
        if host := rule.get("host", ""):
            causes += _host(host, f"{at}.host")
        http = rule.get("http")
        if http is None:
            continue
        for j, path in enumerate(http.get("paths") or []):
            causes += _path(path, f"{at}.http.paths[{j}]")
    for i, tls in enumerate(spec.get("tls") or []):
        for j, host in enumerate(tls.get("hosts") or []):
            causes += _host(host, f"spec.tls[{i}].hosts[{j}]")
    name = spec.get("ingressClassName")
    if name is not None and not SUBDOMAIN.match(name):
        causes.append(invalid("spec.ingressClassName", name, SUBDOMAIN_SAID))
    return causes


def _host(host: str, at: str) -> list[Cause]:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return [invalid(at, host, "must be a DNS name, not an IP address")]
    if host.startswith("*."):
        return [] if SUBDOMAIN.match(host[2:]) else [invalid(at, host, WILDCARD_SAID)]
    return [] if SUBDOMAIN.match(host) and len(host) <= 253 else [invalid(at, host, SUBDOMAIN_SAID)]


_BAD_IN_PATH = ("//", "/./", "/../", "%2f", "%2F")


def _path(path: Obj, at: str) -> list[Cause]:
    causes = []
    kind = path.get("pathType")
    value = path.get("path", "")
    if kind is None:
        causes.append(required(f"{at}.pathType", "pathType must be specified"))
    elif kind in ("Exact", "Prefix"):
        if not value.startswith("/"):
            causes.append(invalid(f"{at}.path", value, "must be an absolute path"))
        said = [f"must not contain '{bad}'" for bad in _BAD_IN_PATH if bad in value]
        said += [f"cannot end with '{bad}'" for bad in ("/..", "/.") if value.endswith(bad)]
        causes += [invalid(f"{at}.path", value, text) for text in said]
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            causes.append(invalid(f"{at}.path", value, "must be an absolute path"))
    else:
        causes.append(not_supported(f"{at}.pathType", kind, _PATH_TYPES))
    return causes + _backend(path.get("backend") or {}, f"{at}.backend")


def _backend(backend: Obj, at: str) -> list[Cause]:
    service, resource = backend.get("service"), backend.get("resource")
    if service is None and resource is None:
        return [required(at, "port name or number is required") if not backend else required(at, "service or resource")]
    if service is not None and resource is not None:
        return [invalid(at, "", "cannot set both resource and service backends")]
    if service is None:
        return []
    causes = []
    name = service.get("name", "")
    if name and not (LABEL.match(name) and len(name) <= 63):
        causes.append(invalid(f"{at}.service.name", name, LABEL_SAID))
    port = service.get("port") or {}
    number, text = port.get("number"), port.get("name")
    if not number and not text:
        causes.append(required(f"{at}.service.port", "port name or number is required"))
    elif number and text:
        causes.append(invalid(f"{at}.service.port", "", "cannot set both port name & port number"))
    elif number and not _is_port(number):
        causes.append(invalid(f"{at}.service.port.number", number, _PORT_SAID))
    return causes


def validate_ingress_class(spec: Obj, before: Obj | None) -> list[Cause]:
    """The controller's name (a path under a domain) and that it does not change."""
    controller = spec.get("controller", "")
    if before is not None and before.get("controller") != controller:
        return [invalid("spec.controller", controller, "field is immutable")]
    if controller and not re.match(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+\Z", controller):
        said = 'must be a domain-prefixed path (such as "acme.io/foo")'
        return [invalid("spec.controller", controller, said)]
    if len(controller) > 250:
        return [type_invalid("spec.controller", controller, "must be no more than 250 characters")]
    return [] if controller else [required("spec.controller")]
