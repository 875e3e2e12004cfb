"""Validation of Services, Ingresses, IngressClasses and NetworkPolicies, in Kubernetes' words. No I/O."""

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
from vrata.sandbox.apiserver.names import (
    LABEL,
    LABEL_SAID,
    SUBDOMAIN,
    SUBDOMAIN_SAID,
    WILDCARD_SAID,
    label_key_said,
    port_name_said,
)

_PORT_SAID = "must be between 1 and 65535, inclusive"
_LOCAL_MULTICAST = (ipaddress.ip_network("224.0.0.0/24"), ipaddress.ip_network("ff02::/16"))
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def _is_port(value: Any) -> bool:
    return isinstance(value, int) and 0 < value < 65536


def validate_service(obj: Obj, old: Obj | None) -> list[Cause]:
    """Ports, type and addresses of a Service, and what may not change."""
    spec = obj.get("spec") or {}
    causes = _service_ports(spec)
    kind = spec.get("type")
    causes += _service_type(spec, kind)
    if kind != "LoadBalancer" and ((obj.get("status") or {}).get("loadBalancer") or {}).get("ingress"):
        said = "may only be used when `spec.type` is 'LoadBalancer'"
        causes.append(forbidden_field("status.loadBalancer.ingress", said))
    for key, value in (spec.get("selector") or {}).items():
        if said := label_key_said(key):
            causes.append(invalid("spec.selector", key, said))
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
        # The field's name is written so in Kubernetes' own messages.
        given += ["LoadBalancerSourceRanges"] if spec.get("loadBalancerSourceRanges") else []
        causes += [forbidden_field(f"spec.{key}", "may only be used when `type` is 'LoadBalancer'") for key in given]
    elif spec.get("loadBalancerClass") is not None and (said := label_key_said(spec["loadBalancerClass"])):
        causes.append(invalid("spec.loadBalancerClass", spec["loadBalancerClass"], said))
    return causes


def _service_networks(spec: Obj) -> list[Cause]:
    causes = []
    for i, cidr in enumerate(spec.get("loadBalancerSourceRanges") or []):
        try:
            ipaddress.ip_network(cidr.strip(), strict=False)
        except ValueError:
            said = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
            causes.append(invalid(f"spec.LoadBalancerSourceRanges[{i}]", cidr, said))
    for i, address in enumerate(spec.get("externalIPs") or []):
        if said := _special_said(address):
            causes.append(invalid(f"spec.externalIPs[{i}]", address, said))
    near = spec.get("trafficDistribution")
    if near is not None and near not in _DISTRIBUTIONS:
        causes.append(not_supported("spec.trafficDistribution", near, _DISTRIBUTIONS))
    families = spec.get("ipFamilies") or []
    for i, family in enumerate(families):
        if family not in ("IPv4", "IPv6"):
            causes.append(not_supported(f"spec.ipFamilies[{i}]", family, ["IPv4", "IPv6"]))
    return causes


def _special_said(text: str) -> str:
    """Why this is no address that others can reach; empty if it is one (ValidateNonSpecialIP)."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
    if address.is_unspecified:
        return f"may not be unspecified ({text})"
    if address.is_loopback:
        return "may not be in the loopback range (127.0.0.0/8, ::1/128)"
    if address.is_link_local:
        return "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
    if any(address in one for one in _LOCAL_MULTICAST if one.version == address.version):
        return "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
    return ""


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
        elif isinstance(target, str):
            causes += [invalid(f"{at}.targetPort", target, said) for said in port_name_said(target)]
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            # The key as Kubernetes' internal type prints it.
            shown = {"Name": "", "Protocol": port.get("protocol"), "AppProtocol": None, "Port": port.get("port")}
            causes.append(duplicate(at, shown | {"TargetPort": 0, "NodePort": 0}))
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


CLASS_ANNOTATION = "kubernetes.io/ingress.class"


def validate_ingress(obj: Obj, old: Obj | None) -> list[Cause]:
    """Hosts, paths, backends, TLS and class of an Ingress; a stored one may name two classes (ValidateIngressCreate)."""
    spec = obj.get("spec") or {}
    causes: list[Cause] = []
    annotated, name = (obj["metadata"].get("annotations") or {}).get(CLASS_ANNOTATION), spec.get("ingressClassName")
    if old is None and annotated is not None and name is not None and annotated != name:
        said = "must match `ingressClassName` when both are specified"
        causes.append(invalid(f"annotations.{CLASS_ANNOTATION}", annotated, said))
    if not spec.get("rules") and "defaultBackend" not in spec:
        causes.append(invalid("spec", None, "either `defaultBackend` or `rules` must be specified"))
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
        if (secret := tls.get("secretName")) and not SUBDOMAIN.match(secret):
            causes.append(invalid(f"spec.tls[{i}].secretName", secret, SUBDOMAIN_SAID))
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
        return [invalid(at, "", "resource or service backend is required")]
    if service is not None and resource is not None:
        return [invalid(at, "", "cannot set both resource and service backends")]
    if service is None:
        return []
    causes = []
    name = service.get("name", "")
    if not name:
        causes.append(required(f"{at}.service.name"))
    elif not (LABEL.match(name) and len(name) <= 63):
        causes.append(invalid(f"{at}.service.name", name, LABEL_SAID))
    port = service.get("port") or {}
    number, text = port.get("number"), port.get("name")
    if not number and not text:
        causes.append(required(at, "port name or number is required"))
    elif number and text:
        causes.append(invalid(at, "", "cannot set both port name & port number"))
    elif number and not _is_port(number):
        causes.append(invalid(f"{at}.service.port.number", number, _PORT_SAID))
    elif text:
        causes += [invalid(f"{at}.service.port.name", text, said) for said in port_name_said(text)]
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


def validate_network_policy(spec: Obj) -> list[Cause]:
    """Directions, peers and ports of a NetworkPolicy."""
    causes: list[Cause] = []
    for i, kind in enumerate(spec.get("policyTypes") or []):
        if kind not in ("Ingress", "Egress"):
            causes.append(not_supported(f"spec.policyTypes[{i}]", kind, ["Ingress", "Egress"]))
    for direction, side in (("ingress", "from"), ("egress", "to")):
        for i, rule in enumerate(spec.get(direction) or []):
            at = f"spec.{direction}[{i}]"
            for j, port in enumerate(rule.get("ports") or []):
                causes += _policy_port(port, f"{at}.ports[{j}]")
            for j, peer in enumerate(rule.get(side) or []):
                causes += _policy_peer(peer, f"{at}.{side}[{j}]")
    return causes


def _policy_port(port: Obj, at: str) -> list[Cause]:
    causes = []
    if port.get("protocol") not in ("TCP", "UDP", "SCTP"):
        causes.append(not_supported(f"{at}.protocol", port.get("protocol"), ["SCTP", "TCP", "UDP"]))
    first, last = port.get("port"), port.get("endPort")
    if isinstance(first, int) and not _is_port(first):
        causes.append(invalid(f"{at}.port", first, _PORT_SAID))
    if isinstance(first, str):
        causes += [invalid(f"{at}.port", first, said) for said in port_name_said(first)]
    if last is not None and not isinstance(first, int):
        causes.append(
            invalid(f"{at}.endPort", last, "may not be specified when `port` is not specified or non-numeric")
        )
    elif last is not None and not (_is_port(last) and last >= first):
        causes.append(invalid(f"{at}.endPort", last, "must be greater than or equal to `port`"))
    return causes


def _policy_peer(peer: Obj, at: str) -> list[Cause]:
    block = peer.get("ipBlock")
    if block is None:
        selects = "podSelector" in peer or "namespaceSelector" in peer
        return [] if selects else [required(at, "must specify a peer")]
    if len(peer) > 1:
        return [forbidden_field(at, "may not specify both ipBlock and another peer")]
    try:
        whole = ipaddress.ip_network(block.get("cidr", ""), strict=False)
    except ValueError:
        said = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        return [invalid(f"{at}.ipBlock.cidr", block.get("cidr"), said)]
    causes = []
    for i, text in enumerate(block.get("except") or []):
        try:
            part = ipaddress.ip_network(text, strict=False)
        except ValueError:
            part = None
        if part is None or part == whole or not _holds(whole, part):
            causes.append(invalid(f"{at}.ipBlock.except[{i}]", text, "must be a strict subset of `cidr`"))
    return causes


def _holds(whole: Any, part: Any) -> bool:
    return whole.version == part.version and bool(part.subnet_of(whole))
