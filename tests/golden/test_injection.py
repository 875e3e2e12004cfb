"""Every string that a user can set, times a hostile corpus: refused, or read back by HAProxy as that one value.

Each accepted configuration is split into words as HAProxy splits them and compared with one that has a harmless value
in the same place: line by line the same words, except the one that is the value.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from tests.support.config_words import split_line
from tests.support.everything import everything
from tests.support.instances import HOSTILE

from vrata.base.errors import InvalidInput
from vrata.base.wire import DesiredInstance, HealthMonitor, L7Policy, L7Rule, Listener, ListenerTls, Member, Pool
from vrata.haproxy.process import HaproxyProcess
from vrata.haproxy.render import render_config
from vrata.host.render import render_haproxy

CORPUS = (
    *HOSTILE,
    "}",
    "{",
    "--",
    "-f",
    "/etc/passwd",
    "-m found",
    "a) -m found",
    "a,b(c)",
    "||",
    "!x",
    "if TRUE",
    "%%",
    "%[src]%",
    "a\tb",
    "a;b",
    "'",
    '"',
    "''",
    '"\'"',
    "\\'",
    "\\\\'",
    "$HOME",
    "https://x.example/'\"} if TRUE #",
    "https://x.example/%[env(HOME)]%%",
    "https://x.example/\\",
    "/a'b\"c\\d#e$HOME",
    "ALL:@SECLEVEL=0 no-sslv3",
    "a\x7fb",
    "é",
    "\ud7ff",
)
Place = Callable[[str], DesiredInstance]


def replaced(desired: DesiredInstance, **changes: object) -> DesiredInstance:
    return msgspec.structs.replace(desired, **changes)


def in_listener(value: str, make: Callable[[Listener, str], Listener]) -> DesiredInstance:
    whole = everything()
    first, *others = whole.listeners
    return replaced(whole, listeners=(make(first, value), *others))


def in_tls(value: str, **fields: Callable[[str], object]) -> DesiredInstance:
    def make(listener: Listener, value: str) -> Listener:
        assert isinstance(listener.tls, ListenerTls)
        changes = {name: field(value) for name, field in fields.items()}
        return msgspec.structs.replace(listener, tls=msgspec.structs.replace(listener.tls, **changes))

    return in_listener(value, make)


def in_policy(**changes: object) -> DesiredInstance:
    base: dict[str, object] = {"id": "p", "action": "REJECT"}
    base["rules"] = (L7Rule(id="r", type="PATH", compare_type="EQUAL_TO", value="/"),)
    made = L7Policy(**(base | changes))  # type: ignore[arg-type]
    return in_listener("", lambda listener, _: msgspec.structs.replace(listener, l7policies=(made,)))


def in_rule(**changes: object) -> DesiredInstance:
    base: dict[str, object] = {"id": "r", "type": "HEADER", "compare_type": "EQUAL_TO", "value": "v", "key": "k"}
    return in_policy(rules=(L7Rule(**(base | changes)),))  # type: ignore[arg-type]


def in_pool(make: Callable[[Pool], Pool]) -> DesiredInstance:
    whole = everything()
    return replaced(whole, pools=tuple(make(pool) if pool.id == "pool-secure" else pool for pool in whole.pools))


def in_monitor(**changes: object) -> DesiredInstance:
    base: dict[str, object] = {"id": "hm", "type": "HTTP", "delay": 1, "timeout": 1, "http_version": 1.1}
    monitor = HealthMonitor(**(base | changes))  # type: ignore[arg-type]
    return in_pool(lambda pool: msgspec.structs.replace(pool, healthmonitor=monitor))


def in_member(**changes: object) -> DesiredInstance:
    base: dict[str, object] = {"id": "m", "address": "192.0.2.1", "protocol_port": 80}
    member = Member(**(base | changes))  # type: ignore[arg-type]
    return in_pool(lambda pool: msgspec.structs.replace(pool, members=(member,)))


def in_pool_field(**changes: object) -> DesiredInstance:
    return in_pool(lambda pool: msgspec.structs.replace(pool, **changes))


# Where a user's string goes, with a harmless value for the same place.
PLACES: dict[str, tuple[Place, str]] = {
    "listener.id": (lambda v: in_listener(v, lambda one, w: msgspec.structs.replace(one, id=w)), "harmless"),
    "listener.cidr": (
        lambda v: in_listener(v, lambda one, w: msgspec.structs.replace(one, allowed_cidrs=(w,))),
        "192.0.2.0/24",
    ),
    "listener.header": (
        lambda v: in_listener(v, lambda one, w: msgspec.structs.replace(one, insert_headers=(w,))),
        "X-Forwarded-Port",
    ),
    "listener.pool": (
        lambda v: in_listener(v, lambda one, w: msgspec.structs.replace(one, default_pool_id=w)),
        "pool-secure",
    ),
    "tls.ciphers": (lambda v: in_tls(v, ciphers=str), "ECDHE-ECDSA-AES128-GCM-SHA256"),
    "tls.versions": (lambda v: in_tls(v, versions=lambda w: (w,), ciphers=lambda _: None), "TLSv1.2"),
    "tls.alpn": (lambda v: in_tls(v, alpn_protocols=lambda w: (w,)), "h2"),
    "tls.client_authentication": (lambda v: in_tls(v, client_authentication=str), "NONE"),
    "policy.id": (lambda v: in_policy(id=v), "harmless"),
    "policy.action": (lambda v: in_policy(action=v), "REJECT"),
    "policy.url": (lambda v: in_policy(action="REDIRECT_TO_URL", redirect_url=v), "https://harmless"),
    "policy.prefix": (lambda v: in_policy(action="REDIRECT_PREFIX", redirect_prefix=v), "https://harmless"),
    "policy.pool": (lambda v: in_policy(action="REDIRECT_TO_POOL", redirect_pool_id=v), "pool-secure"),
    "rule.type": (lambda v: in_rule(type=v), "HEADER"),
    "rule.compare": (lambda v: in_rule(compare_type=v), "EQUAL_TO"),
    "rule.header": (lambda v: in_rule(key=v), "harmless"),
    "rule.cookie": (lambda v: in_rule(type="COOKIE", key=v), "harmless"),
    "rule.dn": (lambda v: in_rule(type="SSL_DN_FIELD", key=v), "CN"),
    "rule.verify": (lambda v: in_rule(type="SSL_VERIFY_RESULT", value=v), "10"),
    "rule.value": (lambda v: in_rule(value=v), "harmless"),
    "rule.regex": (lambda v: in_rule(compare_type="REGEX", value=v), "harmless"),
    "rule.host": (lambda v: in_rule(type="HOST_NAME", value=v), "harmless"),
    "rule.path": (lambda v: in_rule(type="PATH", compare_type="CONTAINS", value=v), "harmless"),
    "rule.file_type": (lambda v: in_rule(type="FILE_TYPE", value=v), "harmless"),
    "pool.algorithm": (lambda v: in_pool_field(lb_algorithm=v), "ROUND_ROBIN"),
    "pool.protocol": (lambda v: in_pool_field(protocol=v), "HTTP"),
    "pool.persistence": (lambda v: in_pool_field(persistence_type=v), "SOURCE_IP"),
    "pool.cookie": (lambda v: in_pool_field(persistence_type="APP_COOKIE", cookie_name=v), "harmless"),
    "monitor.type": (lambda v: in_monitor(type=v), "HTTP"),
    "monitor.method": (lambda v: in_monitor(http_method=v), "GET"),
    "monitor.path": (lambda v: in_monitor(url_path=v), "/harmless"),
    "monitor.codes": (lambda v: in_monitor(expected_codes=v), "200"),
    "monitor.domain": (lambda v: in_monitor(domain_name=v), "harmless"),
    "member.id": (lambda v: in_member(id=v), "harmless"),
    "member.address": (lambda v: in_member(address=v), "192.0.2.1"),
    "member.monitor": (lambda v: in_member(monitor_address=v), "192.0.2.1"),
}


def words_of(desired: DesiredInstance, directory: str = "/run/vrata") -> list[list[str]]:
    return [split_line(line) for line in render_config(render_haproxy(desired, directory)).splitlines()]


@pytest.mark.parametrize("place", PLACES)
async def test_a_users_string_is_one_value_or_refused(place: str, tmp_path: Path) -> None:
    make, harmless = PLACES[place]
    expected = words_of(make(harmless))
    accepted = []
    for value in CORPUS:
        try:
            found = words_of(make(value))
        except InvalidInput:
            continue
        accepted.append(value)
        assert len(found) == len(expected), value
        for line, model in zip(found, expected, strict=True):
            assert len(line) == len(model), (value, line)
            for word, harmless_word in zip(line, model, strict=True):
                # The one word that differs holds the value, whole: per cent signs doubled in a log format, or without
                # the dot of a file type.
                forms = {harmless_word.replace(harmless, form) for form in (value, value.replace("%", "%%"), value[1:])}
                assert word == harmless_word or word in forms, (value, line)
    # What is accepted is accepted by HAProxy too: one run for each would take too long, so the last three are asked.
    for value in accepted[-3:]:
        config = render_haproxy(make(value), str(tmp_path))
        await HaproxyProcess(tmp_path).check(render_config(config), config.files)
