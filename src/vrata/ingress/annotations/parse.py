"""From the annotations of one Ingress to its Options and problems; never raises, whatever is written."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from vrata.ingress.annotations import options as o
from vrata.ingress.annotations.grammar import Nearest
from vrata.ingress.annotations.table import TABLE, Row, Support
from vrata.ingress.model import Problem

NGINX = "nginx.ingress.kubernetes.io/"
OURS = "vrata.dev/"
# Group -> the annotation that switches it on, and whether a value does.
SWITCHES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "canary": ("canary", bool),
    "cors": ("enable-cors", bool),
    "backend_tls": ("backend-protocol", lambda protocol: str(protocol).endswith("S")),
}
# Without at least one of these, some do nothing.
_AUTH, _TLS = ("auth-type", "auth-secret"), ("auth-tls-secret", "auth-tls-verify-client")
NEEDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("auth-realm", "auth-secret-type"), _AUTH),
    **dict.fromkeys(("auth-tls-verify-depth", "auth-tls-pass-certificate-to-upstream", "auth-tls-match-cn"), _TLS),
    **dict.fromkeys(("auth-signin", "auth-method", "auth-response-headers", "auth-proxy-set-headers"), ("auth-url",)),
}
ADJUSTED = "AdjustedAnnotation"
NETWORKS = {"allowlist-source-range", "whitelist-source-range", "denylist-source-range"}
GROUPS: dict[str, type[Any]] = {
    "rewrite": o.Rewrite,
    "redirect": o.Redirect,
    "canary": o.Canary,
    "affinity": o.Affinity,
    "backend": o.BackendOptions,
    "backend_tls": o.BackendTls,
    "cors": o.Cors,
    "access": o.AccessList,
    "rate_limit": o.RateLimit,
    "basic_auth": o.BasicAuth,
    "external_auth": o.ExternalAuth,
    "client_tls": o.ClientTls,
    "mirror": o.Mirror,
    "traffic": o.Traffic,
    "answers": o.Answers,
    "hints": o.Hints,
}


def said(annotations: Mapping[str, str]) -> dict[str, str]:
    """Without those that say nothing: to ingress-nginx an empty one is none, but for networks, where it lets nobody in."""
    return {key: text for key, text in annotations.items() if text.strip() or _name(key) in NETWORKS}


def _name(key: str) -> str:
    return key.removeprefix(NGINX).removeprefix(OURS)


def parse_annotations(ingress: str, annotations: Mapping[str, str]) -> tuple[o.Options, tuple[Problem, ...]]:
    """`ingress` is namespace/name, for the problems. Where both prefixes name one thing, `vrata.dev/` wins."""
    problems: list[Problem] = []
    groups: dict[str, dict[str, object]] = {}
    refused = False
    off = _switched_off(said(annotations))
    for name, (key, text) in sorted(_by_name(said(annotations)).items()):
        row = TABLE.get(name)
        if row is None:
            problems.append(Problem(ingress, "UnknownAnnotation", f"{key[:128]!r}: is not known; correct or remove it"))
        elif row.support is Support.NO:
            problems.append(Problem(ingress, "UnsupportedAnnotation", f"{key}: is not supported; {row.note}"))
            refused = refused or row.closed
        else:
            row = replace(row, closed=row.closed and (row.group, row.field) not in off)
            problem = _take(ingress, key, text, row, groups)
            if problem:
                problems.append(problem)
                refused = refused or (row.closed and problem.reason != ADJUSTED)
    values: dict[str, Any] = {group: GROUPS[group](**fields) for group, fields in groups.items()}
    return o.Options(refused=refused, **values), tuple(problems)


def _switched_off(annotations: Mapping[str, str]) -> set[tuple[str, str]]:
    """Group and field of annotations that do nothing, whatever they say, for another one is needed to switch them on."""
    by_name = _by_name(annotations)
    rows = (TABLE[name] for name, needed in NEEDS.items() if not by_name.keys() & {*needed})
    off = {(row.group, row.field) for row in rows}
    for group, (switch, starts) in SWITCHES.items():
        row = TABLE[switch]
        try:
            on = switch in by_name and starts(row.parse(by_name[switch][1].strip()))
        except ValueError:
            on = row.closed
        if not on:
            off |= {(group, one.field) for one in TABLE.values() if one.group == group and one.name != switch}
    return off


def _by_name(annotations: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    found = {}
    for prefix in (NGINX, OURS):
        for key, text in annotations.items():
            if key.startswith(prefix):
                found[key.removeprefix(prefix)] = (key, text)
    return found


def _take(ingress: str, key: str, text: str, row: Row, groups: dict[str, dict[str, object]]) -> Problem | None:
    fields = groups.setdefault(row.group, {})
    try:
        value = row.parse("\n".join(line.strip() for line in text.strip().split("\n")))
    except ValueError as error:
        if not fields:
            del groups[row.group]
        effect = "the Ingress is left out" if row.closed else "it has no effect"
        return Problem(ingress, "InvalidAnnotation", f"{key}: {text[:80]!r} is not valid, {effect}; {error}")
    adjusted = None
    if isinstance(value, Nearest):
        adjusted = Problem(ingress, ADJUSTED, f"{key}: {text.strip()[:80]!r} {value.said}")
        value = value.value
    if row.field in fields and fields[row.field] != value:
        return Problem(ingress, "InvalidAnnotation", f"{key}: an older name says otherwise; keep one of the two")
    fields[row.field] = value
    return adjusted
