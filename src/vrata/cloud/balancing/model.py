"""The fields of Octavia's resources and the rules between them (Octavia API v2, C7 of its validation). Pure.

A broken rule is a `Broken` with Octavia's status and sentence.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from vrata.cloud.balancing import rules
from vrata.cloud.balancing.broken import Broken, broken
from vrata.cloud.fields import Field

MAX_PERSISTENCE_S = 7 * 24 * 3600
MAX_TIMEOUT_MS = 24 * 24 * 3600 * 1000
PROVIDERS = {"amphora": "The Octavia Amphora driver.", "octavia": "Deprecated alias of the Octavia Amphora driver."}
DEFAULT_PROVIDER = "amphora"
INSERT_HEADERS = ("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto")
TLS_HEADERS = (
    "X-SSL-Client-Verify", "X-SSL-Client-Has-Cert", "X-SSL-Client-DN", "X-SSL-Client-CN", "X-SSL-Issuer",
    "X-SSL-Client-SHA1", "X-SSL-Client-Not-Before", "X-SSL-Client-Not-After",
)  # fmt: skip

LISTENER_PROTOCOLS = ("TCP", "HTTP", "HTTPS", "TERMINATED_HTTPS", "UDP", "SCTP", "PROMETHEUS")
POOL_PROTOCOLS = ("TCP", "HTTP", "HTTPS", "PROXY", "PROXYV2", "UDP", "SCTP")
CARRIED_LISTENERS = frozenset(LISTENER_PROTOCOLS) - {"SCTP"}  # this kernel has no SCTP
CARRIED_POOLS = frozenset(POOL_PROTOCOLS) - {"SCTP"}
DATAGRAMS = frozenset({"UDP", "SCTP"})
MONITORS_OF_DATAGRAMS = frozenset({"HTTP", "SCTP", "TCP", "UDP-CONNECT"})
UDP_CONNECT_DELAY_LEAST_S = 3
POOLS_OF_LISTENER = {
    "HTTP": {"HTTP", "PROXY", "PROXYV2"},
    "HTTPS": {"HTTPS", "PROXY", "PROXYV2", "TCP"},
    "TCP": {"HTTP", "HTTPS", "PROXY", "PROXYV2", "TCP"},
    "TERMINATED_HTTPS": {"HTTP", "PROXY", "PROXYV2"},
    "UDP": {"UDP"},
    "SCTP": {"SCTP"},
    "PROMETHEUS": set(),
}
MONITORS = ("HTTP", "HTTPS", "PING", "TCP", "TLS-HELLO", "UDP-CONNECT", "SCTP")
MONITORS_OF_STREAM = frozenset({"HTTP", "HTTPS", "PING", "TCP", "TLS-HELLO"})
HTTP_MONITORS = frozenset({"HTTP", "HTTPS"})
HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.(?!-)[A-Za-z0-9_-]{1,63})*")
HTTP_DEFAULTS = {"http_method": "GET", "url_path": "/", "expected_codes": "200"}


def transport(protocol: str) -> str:
    """What a listener's port is unique in: TCP, UDP or SCTP."""
    return protocol.lower() if protocol in DATAGRAMS else "tcp"


def unsupported(what: str) -> Broken:
    """501 as Octavia words what its provider can not do."""
    return Broken(501, f"Provider '{DEFAULT_PROVIDER}' does not support a requested option: {what}")


NESTED_MAX = 1000  # listeners, pools, policies in one list
MEMBERS_MAX = 4000  # in one list
_COMMON = {
    "name": Field(default=""),
    "description": Field(default="", lines=True),
    "admin_state_up": Field("bool", default=True, nullable=False),
    "project_id": Field(update=False),
    "tenant_id": Field(update=False),
    "tags": Field("strings", default=()),
}
_TLS_LISTENER = {
    "default_tls_container_ref": Field(), "sni_container_refs": Field("strings"),
    "client_authentication": Field(choices=("NONE", "OPTIONAL", "MANDATORY")),
    "client_ca_tls_container_ref": Field(), "client_crl_container_ref": Field(), "tls_ciphers": Field(length=2048),
    "tls_versions": Field("strings"), "alpn_protocols": Field("strings"), "hsts_max_age": Field("int", least=0),
    "hsts_include_subdomains": Field("bool"), "hsts_preload": Field("bool"),
}  # fmt: skip
_TLS_POOL = {
    "tls_enabled": Field("bool", default=False), "tls_container_ref": Field(), "ca_tls_container_ref": Field(),
    "crl_container_ref": Field(), "tls_ciphers": Field(length=2048), "tls_versions": Field("strings"),
    "alpn_protocols": Field("strings"),
}  # fmt: skip

LOAD_BALANCER = {
    **_COMMON,
    "vip_address": Field("ip", update=False),
    "vip_port_id": Field("uuid", update=False),
    "vip_subnet_id": Field("uuid", update=False),
    "vip_network_id": Field("uuid", update=False),
    "vip_qos_policy_id": Field("uuid"),
    "vip_sg_ids": Field("strings"),
    "additional_vips": Field("list"),
    "provider": Field(update=False),
    "flavor_id": Field("uuid", update=False),
    "availability_zone": Field(update=False),
    "listeners": Field("list", update=False, items=NESTED_MAX),
    "pools": Field("list", update=False, items=NESTED_MAX),
}
LISTENER = {
    **_COMMON,
    **_TLS_LISTENER,
    "loadbalancer_id": Field("uuid", update=False),
    "protocol": Field(required=True, choices=LISTENER_PROTOCOLS, update=False),
    "protocol_port": Field("int", required=True, least=1, most=65535, update=False),
    "connection_limit": Field("int", default=-1, least=-1),
    "default_pool_id": Field("uuid"),
    "default_pool": Field("dict", update=False),
    "insert_headers": Field("dict"),
    "l7policies": Field("list", update=False, items=NESTED_MAX),
    "timeout_client_data": Field("int", default=50000, least=0, most=MAX_TIMEOUT_MS),
    "timeout_member_connect": Field("int", default=5000, least=0, most=MAX_TIMEOUT_MS),
    "timeout_member_data": Field("int", default=50000, least=0, most=MAX_TIMEOUT_MS),
    "timeout_tcp_inspect": Field("int", default=0, least=0, most=MAX_TIMEOUT_MS),
    "allowed_cidrs": Field("list", items=1000),
}
POOL = {
    **_COMMON,
    **_TLS_POOL,
    "loadbalancer_id": Field("uuid", update=False),
    "listener_id": Field("uuid", update=False),
    "protocol": Field(required=True, choices=POOL_PROTOCOLS, update=False),
    "lb_algorithm": Field(required=True, choices=("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT")),
    "session_persistence": Field("dict"),
    "members": Field("list", update=False, items=MEMBERS_MAX),
    "healthmonitor": Field("dict", update=False),
}
MEMBER = {
    **_COMMON,
    "address": Field("address", required=True, update=False),
    "protocol_port": Field("int", required=True, least=1, most=65535, update=False),
    "weight": Field("int", default=1, least=0, most=256),
    "backup": Field("bool", default=False),
    "subnet_id": Field("uuid", update=False),
    "monitor_address": Field("address"),
    "monitor_port": Field("int", least=1, most=65535),
    "request_sriov": Field("bool", update=False),
}
MONITOR = {
    **_COMMON,
    "pool_id": Field("uuid", update=False),
    "type": Field(required=True, choices=MONITORS, update=False),
    "delay": Field("int", required=True, least=0),
    "timeout": Field("int", required=True, least=0),
    "max_retries": Field("int", required=True, least=1, most=10),
    "max_retries_down": Field("int", default=3, least=1, most=10),
    "http_method": Field(choices=("GET", "HEAD", "POST", "PUT", "DELETE", "TRACE", "OPTIONS", "PATCH", "CONNECT")),
    "url_path": Field(length=2048),
    "expected_codes": Field(length=64),
    "http_version": Field("float", least=1.0, most=1.1),
    "domain_name": Field(),
}


def check_listener(values: Mapping[str, Any], *, sctp: bool = False) -> dict[str, Any]:
    """Rules of one listener; `values` are those given plus what a stored one has. What is to be stored comes back."""
    protocol = values["protocol"]
    if protocol not in CARRIED_LISTENERS and not sctp:
        raise unsupported(f"{protocol} listeners: the kernel of the hosts has no SCTP")
    if values.get("l7policies") and protocol not in rules.L7_LISTENERS:
        raise broken(f"L7 policies are not supported on {protocol} protocol listeners.")
    if protocol == "PROMETHEUS" and (values.get("default_pool_id") or values.get("default_pool")):
        raise broken("PROMETHEUS protocol listeners do not support default pools.")
    rules.check_listener_tls(values)
    out = rules.check_tls(values, ends_tls=protocol == "TERMINATED_HTTPS")
    _check_headers(protocol, values.get("insert_headers") or {})
    return out


def _check_headers(protocol: str, headers: Mapping[str, Any]) -> None:
    if headers and protocol not in rules.L7_LISTENERS:
        raise Broken(400, f"insert-headers is not a valid option for a {protocol} protocol listener.")
    known = INSERT_HEADERS + (TLS_HEADERS if protocol == "TERMINATED_HTTPS" else ())
    for name, value in headers.items():
        if name not in known:
            raise Broken(400, f"{name} is not a valid option for insert_headers")
        if not isinstance(value, str):
            raise Broken(
                400, f"Invalid input for field/attribute insert_headers. Value: '{headers}'. Value should be string"
            )
        if value.lower() not in {"true", "false"}:
            raise Broken(400, f"{value} is not a valid option for a header {name} value")


def check_pool(values: Mapping[str, Any], *, sctp: bool = False) -> dict[str, Any]:
    """Rules of one pool; what is to be stored comes back."""
    if values["protocol"] not in CARRIED_POOLS and not sctp:
        raise unsupported(f"{values['protocol']} pools: the kernel of the hosts has no SCTP")
    tls = bool(values.get("tls_enabled"))
    out = rules.check_tls(values, ends_tls=tls)
    if tls and values["protocol"] in DATAGRAMS:
        raise broken(f"TLS to members is not supported on {values['protocol']} protocol pools.")
    persistence = values.get("session_persistence")
    if persistence is not None:
        _check_persistence(persistence, datagrams=values["protocol"] in DATAGRAMS)
    return out


def _check_persistence(persistence: Mapping[str, Any], *, datagrams: bool) -> None:
    unknown = persistence.keys() - {"type", "cookie_name", "persistence_timeout", "persistence_granularity"}
    if unknown:
        raise Broken(400, f"Unknown attribute for argument pool_.pool.session_persistence: {min(unknown)}")
    kind, cookie = persistence.get("type"), persistence.get("cookie_name")
    if kind is None:
        raise Broken(400, "Invalid input for field/attribute type. Value: 'None'. Mandatory field missing.")
    if kind not in {"SOURCE_IP", "HTTP_COOKIE", "APP_COOKIE"}:
        raise Broken(
            400, f"Invalid input for field/attribute type. Value: '{kind}'. Value should be one of: "
            "APP_COOKIE, HTTP_COOKIE, SOURCE_IP",
        )  # fmt: skip
    if kind == "APP_COOKIE" and not cookie:
        raise broken('Field "cookie_name" must be specified when using the "APP_COOKIE" session persistence type.')
    if kind != "APP_COOKIE" and cookie:
        raise broken('Field "cookie_name" can only be specified with session persistence of type "APP_COOKIE".')
    if cookie is not None and not _is_token(cookie):
        raise broken("Supplied cookie_name is invalid.")
    timeout, granularity = persistence.get("persistence_timeout"), persistence.get("persistence_granularity")
    if not datagrams and (timeout or granularity):
        raise broken("persistence_timeout and persistence_granularity is only for UDP and SCTP protocol pools.")
    if datagrams and kind != "SOURCE_IP":
        raise broken(
            f"session_persistence of type {kind} is not supported for UDP and SCTP protocol pools: use SOURCE_IP."
        )
    if timeout is not None and not (type(timeout) is int and 0 < timeout <= MAX_PERSISTENCE_S):
        raise Broken(
            400, f"Invalid input for field/attribute persistence_timeout. Value: '{timeout}'. "
            f"Value should be a number of seconds from 1 to {MAX_PERSISTENCE_S}",
        )  # fmt: skip
    if granularity is not None and not _is_granularity(granularity):
        raise Broken(
            400, f"Invalid input for field/attribute persistence_granularity. Value: '{granularity}'. "
            "Value should be a netmask such as 255.255.255.0 or a prefix length of IPv6",
        )  # fmt: skip


def _is_granularity(text: object) -> bool:
    """A netmask of IPv4, or a prefix length of IPv6."""
    if not isinstance(text, str) or not re.fullmatch(r"[0-9.]{1,15}", text):
        return False
    if text.isdigit():
        return 1 <= int(text) <= 128
    try:
        return ipaddress.ip_network(f"0.0.0.0/{text}").prefixlen > 0
    except ValueError:
        return False


def _is_token(text: object) -> bool:
    """RFC 9110, section 5.6.2: what a cookie's name may consist of."""
    return (
        isinstance(text, str)
        and 0 < len(text) <= 64
        and all(char.isascii() and (char.isalnum() or char in "!#$%&'*+-.^_`|~") for char in text)
    )


def check_pair(listener_protocol: str, pool_protocol: str) -> None:
    """A listener may have this pool."""
    if pool_protocol not in POOLS_OF_LISTENER[listener_protocol]:
        raise broken(
            f"The pool protocol '{pool_protocol}' is invalid while the listener protocol is '{listener_protocol}'."
        )


def check_monitor(values: Mapping[str, Any], pool_protocol: str) -> dict[str, Any]:
    """Rules of one monitor on a pool of this protocol; the values with HTTP's defaults filled in."""
    out = dict(values)
    if pool_protocol in DATAGRAMS:
        _check_datagram_monitor(values, pool_protocol)
    elif values["type"] not in MONITORS_OF_STREAM:
        raise broken(f"The {values['type']} type is only supported for pools of type UDP/SCTP.")
    if values["type"] in HTTP_MONITORS:
        _check_http(out)
    else:
        for name in HTTP_DEFAULTS:
            if out.get(name) is not None:
                raise Broken(400, f"{name} is not a valid option for health monitors of type {values['type']}")
    _check_host(out)
    return out


def _check_datagram_monitor(values: Mapping[str, Any], pool_protocol: str) -> None:
    kind = values["type"]
    if kind not in MONITORS_OF_DATAGRAMS:
        raise broken(
            f"The associated pool protocol is {pool_protocol}, so only a {', '.join(sorted(MONITORS_OF_DATAGRAMS))} "
            "health monitor is supported."
        )
    if kind == "UDP-CONNECT" and values["delay"] < UDP_CONNECT_DELAY_LEAST_S:
        raise broken(
            f"The request delay value {values['delay']} should be larger than {UDP_CONNECT_DELAY_LEAST_S} for {kind} "
            "health monitor type."
        )


def _check_http(out: dict[str, Any]) -> None:
    """Rules of HTTP and HTTPS monitors; fills in their defaults."""
    for name, default in HTTP_DEFAULTS.items():
        if out.get(name) is None:
            out[name] = default
    if not str(out["url_path"]).startswith("/") or any(char in out["url_path"] for char in " \"'\\"):
        raise broken(f"url_path {out['url_path']!r} is not a valid URL path.")
    if not _is_codes(out["expected_codes"]):
        raise Broken(400, f"{out['expected_codes']} is not a valid option for expected_codes")


def _check_host(values: Mapping[str, Any]) -> None:
    """Version and host name. Octavia keeps both on monitors of every type, where nothing asks for them."""
    version, name = values.get("http_version"), values.get("domain_name")
    if version not in {None, 1.0, 1.1}:
        raise Broken(400, f"{version} is not a valid option for http_version")
    if name and not HOST_NAME.fullmatch(name):
        raise Broken(400, f"{name} is not a valid option for domain_name")
    if name and version != 1.1:
        raise broken("'http_version'='1.1' is required when 'domain_name' is provided.")


def _is_codes(text: str) -> bool:
    """`200`, `200,204` or `200-204`."""

    def code(part: str) -> bool:
        return len(part) == 3 and part.isascii() and part.isdigit() and 100 <= int(part) <= 599

    if "-" in text:
        low, _, high = text.partition("-")
        return code(low) and code(high) and low <= high
    return all(code(part) for part in text.split(","))


def check_member(values: Mapping[str, Any]) -> None:
    """Rules of one member."""
    if values["address"] == "169.254.169.254":
        raise Broken(400, f"{values['address']} is not a valid option for member address")
    if values.get("request_sriov"):
        raise unsupported("SR-IOV members")


L7POLICY = rules.l7policy_fields(_COMMON)
L7RULE = rules.l7rule_fields(_COMMON)
