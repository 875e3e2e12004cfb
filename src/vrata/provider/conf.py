"""What the OpenStack cloud controller's cloud.conf means to us: its settings, and how to log in.

Every key that controller reads is known here with its meaning and its default; those that we have no need of are
accepted and named in `Conf.ignored`. Anything else is InvalidInput with section, key, value and remedy. Pure: the
caller reads the file.

Source: cloud-provider-openstack, «Using OpenStack Cloud Controller Manager», Config.
"""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from vrata.base.errors import InvalidInput
from vrata.provider.gcfg import Entry, parse
from vrata.provider.login import Login, login_of
from vrata.provider.model import BalancerClass, Settings

# Where our own defaults are another (monitors, the cloud's own driver), those of the file's first reader hold.
DEFAULTS = Settings(monitor=False, provider="amphora")
INTERFACES = ("public", "publicURL", "internal", "internalURL", "admin", "adminURL")
METHODS = ("ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP", "SOURCE_IP_PORT")
FOREIGN_SECTIONS = frozenset({"blockstorage", "keymanager"})  # of the volume and key plugins that share the file
_UUID = re.compile(r"[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}", re.IGNORECASE)
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


@dataclass(frozen=True)
class Networking:
    """`[Networking]` and `[Route]`: which addresses of a server mean what, and the router that gets routes."""

    ipv6_support_disabled: bool = False
    public_network_names: tuple[str, ...] = ()
    internal_network_names: tuple[str, ...] = ()
    address_sort_order: tuple[str, ...] = ()  # networks
    router_id: str = ""


@dataclass(frozen=True)
class Conf:
    """One cloud.conf. `enabled` False: no balancers at all; `request_timeout_s` None: our own."""

    settings: Settings = DEFAULTS
    login: Login = field(default_factory=Login)
    networking: Networking = field(default_factory=Networking)
    enabled: bool = True
    request_timeout_s: float | None = None
    ignored: tuple[str, ...] = ()


class _Unfit(ValueError):
    """A value does not fit its key; says what would."""


def _text(value: str | None) -> str:
    if value is None:
        raise _Unfit("write key=value")
    return value


def _one_of(*choices: str) -> Callable[[str | None], str]:
    def reads(value: str | None) -> str:
        if value not in choices:
            raise _Unfit(f"want {' or '.join(choice or 'nothing' for choice in choices)}")
        return value

    return reads


def _uuid(value: str | None) -> str:
    if value and not _UUID.fullmatch(value):
        raise _Unfit("want the UUID of one, or nothing")
    return _text(value)


def _flag(value: str | None) -> bool:
    known = {None: True, "true": True, "yes": True, "on": True, "1": True}
    known |= {"false": False, "no": False, "off": False, "0": False}
    key = value and value.lower()
    if key not in known:
        raise _Unfit("want true or false")
    return known[key]


def _networks(value: str | None) -> tuple[str, ...]:
    given = tuple(one.strip() for one in (value or "").split(",") if one.strip())
    for one in given:
        try:
            ipaddress.ip_network(one, strict=False)
        except ValueError as error:
            raise _Unfit("want networks such as 10.0.0.0/8, with commas") from error
    return given


def _number(value: str | None) -> int:
    if not value or not re.fullmatch(r"[0-9]{1,9}", value):
        raise _Unfit("want a number, 0 or more")
    return int(value)


def _retries(value: str | None) -> int:
    if not 1 <= _number(value) <= 10:
        raise _Unfit("want 1 to 10")
    return _number(value)


def _duration_s(value: str | None) -> Decimal:
    parts = _DURATION.fullmatch(value or "")
    if not value or not parts or len(value) > 20:
        raise _Unfit("want a duration such as 5s or 1m30s")
    hours, minutes, seconds, milliseconds = (Decimal(part or 0) for part in parts.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def _whole_s(value: str | None) -> int:
    seconds = _duration_s(value)
    if seconds < 1 or seconds != int(seconds):
        raise _Unfit("want whole seconds, such as 5s")
    return int(seconds)


Key = tuple[str, Callable[[str | None], object]]

_CLASS: dict[str, Key] = {
    "floating-network-id": ("floating_network_id", _uuid),
    "floating-subnet-id": ("floating_subnet_id", _uuid),
    "floating-subnet": ("floating_subnet", _text),
    "floating-subnet-tags": ("floating_subnet_tags", _text),
    "network-id": ("network_id", _uuid),
    "subnet-id": ("subnet_id", _uuid),
    "member-subnet-id": ("member_subnet_id", _uuid),
}
_LOAD_BALANCER: dict[str, Key] = {
    **_CLASS,
    "enabled": ("enabled", _flag),
    "lb-provider": ("provider", _text),
    "lb-method": ("algorithm", _one_of(*METHODS)),
    "create-monitor": ("monitor", _flag),
    "monitor-delay": ("monitor_delay_s", _whole_s),
    "monitor-timeout": ("monitor_timeout_s", _whole_s),
    "monitor-max-retries": ("monitor_retries", _retries),
    "monitor-max-retries-down": ("monitor_retries_down", _retries),
    "manage-security-groups": ("manage_security_groups", _flag),
    "internal-lb": ("internal", _flag),
    "node-selector": ("node_selector", _text),
    "flavor-id": ("flavor_id", _uuid),
    "availability-zone": ("availability_zone", _text),
    "enable-ingress-hostname": ("ingress_hostname", _flag),
    "ingress-hostname-suffix": ("ingress_hostname_suffix", _text),
    "default-tls-container-ref": ("tls_container_ref", _text),
    "container-store": ("check_tls_container", lambda value: _one_of("barbican", "external")(value) == "barbican"),
}
# `auth.` goes into the credentials, the rest beside them (openstacksdk, «Configuration»).
_GLOBAL: dict[str, Key] = {
    "auth-url": ("auth.auth_url", _text),
    "username": ("auth.username", _text),
    "user-id": ("auth.user_id", _text),
    "password": ("auth.password", _text),
    "token": ("auth.token", _text),
    "tenant-id": ("auth.project_id", _text),
    "tenant-name": ("auth.project_name", _text),
    "domain-id": ("auth.domain_id", _text),
    "domain-name": ("auth.domain_name", _text),
    "tenant-domain-id": ("auth.project_domain_id", _text),
    "tenant-domain-name": ("auth.project_domain_name", _text),
    "user-domain-id": ("auth.user_domain_id", _text),
    "user-domain-name": ("auth.user_domain_name", _text),
    "trust-id": ("auth.trust_id", _text),
    "trustee-id": ("trustee_id", _text),
    "trustee-password": ("trustee_password", _text),
    "application-credential-id": ("auth.application_credential_id", _text),
    "application-credential-name": ("auth.application_credential_name", _text),
    "application-credential-secret": ("auth.application_credential_secret", _text),
    "region": ("region_name", _text),
    "os-endpoint-type": ("interface", lambda value: _one_of("", *INTERFACES)(value).removesuffix("URL")),
    "ca-file": ("cacert", _text),
    "cert-file": ("cert", _text),
    "key-file": ("key", _text),
    "tls-insecure": ("insecure", _flag),
    "use-clouds": ("use_clouds", _flag),
    "clouds-file": ("clouds_file", _text),
    "cloud": ("cloud", _text),
}
_NETWORKING: dict[str, Key] = {
    "ipv6-support-disabled": ("ipv6_support_disabled", _flag),
    "public-network-name": ("public_network_names", _text),
    "internal-network-name": ("internal_network_names", _text),
    "address-sort-order": ("address_sort_order", _networks),
}
_SECTIONS: dict[str, dict[str, Key]] = {
    "global": _GLOBAL,
    "loadbalancer": _LOAD_BALANCER,
    "loadbalancerclass": _CLASS,
    "networking": _NETWORKING,
    "route": {"router-id": ("router_id", _uuid)},
    "metadata": {"request-timeout": ("request_timeout_s", _duration_s)},
}
_NO_NEED: dict[str, dict[str, Key]] = {
    "loadbalancer": {
        "use-octavia": ("", _flag),
        "cascade-delete": ("", _flag),
        "lb-version": ("", _one_of("", "v2")),
        "max-shared-lb": ("", _number),
        "provider-requires-serial-api-calls": ("", _flag),
    },
    "metadata": {"search-order": ("", _text)},
}
_REPEATED = frozenset({"public_network_names", "internal_network_names"})


def parse_conf(text: str, cluster: str = "kubernetes") -> Conf:
    """Read a cloud.conf; of a key given twice the last counts. InvalidInput names what is wrong and what would do."""
    values: dict[str, dict[str, Any]] = {section: {} for section in _SECTIONS}
    classes: dict[str, dict[str, Any]] = {}
    ignored: dict[str, None] = {}
    for entry in parse(text):
        if entry.section in FOREIGN_SECTIONS:
            ignored[f"[{entry.section}]"] = None
            continue
        if entry.section not in _SECTIONS:
            raise InvalidInput(
                "cloud.conf", f"[{entry.section}]", "want one of [Global], [LoadBalancer], [Networking] …"
            )
        found = classes.setdefault(_class_name(entry), {}) if entry.section == "loadbalancerclass" else None
        found = values[entry.section] if found is None else found
        if not entry.key:
            continue
        name, value = _read(entry)
        if not name:
            ignored[_named(entry)] = None
        elif name in _REPEATED:
            found[name] = (*found.get(name, ()), value)
        else:
            found[name] = value
    balancing = values["loadbalancer"]
    enabled = balancing.pop("enabled", True)
    timeout_s = values["metadata"].get("request_timeout_s")
    return Conf(
        settings=_settings(balancing, classes, cluster),
        login=login_of(values["global"]),
        networking=Networking(**values["networking"], **values["route"]),
        enabled=enabled,
        request_timeout_s=float(timeout_s) if timeout_s else None,
        ignored=tuple(ignored),
    )


def _read(entry: Entry) -> tuple[str, object]:
    """The field and value of one key; no field: nothing that we need."""
    known = {**_SECTIONS[entry.section], **_NO_NEED.get(entry.section, {})}
    shown = "…" if entry.section == "global" else entry.value  # a misspelt `password` is a password still
    if entry.key not in known:
        raise InvalidInput(_named(entry), shown, f"line {entry.line}: there is no such key; see cloud.conf's manual")
    name, reads = known[entry.key]
    try:
        return name, reads(entry.value)
    except _Unfit as unfit:
        raise InvalidInput(_named(entry), entry.value or "", f"line {entry.line}: {unfit}") from None


def _named(entry: Entry) -> str:
    return f"[{entry.section}] {entry.key}" if entry.name is None else f'[{entry.section} "{entry.name}"] {entry.key}'


def _class_name(entry: Entry) -> str:
    if not entry.name:
        raise InvalidInput("cloud.conf", "[LoadBalancerClass]", f'line {entry.line}: write [LoadBalancerClass "name"]')
    return entry.name


def _settings(values: dict[str, Any], classes: dict[str, dict[str, Any]], cluster: str) -> Settings:
    given = {"monitor": DEFAULTS.monitor, "provider": DEFAULTS.provider, **values}
    named = tuple((name, BalancerClass(**fields)) for name, fields in classes.items())
    return Settings(cluster=cluster, classes=named, **given)
