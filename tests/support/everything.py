"""A balancer that uses every option HAProxy is given: TLS at both ends, L7 policies, exporter, all kinds of monitors."""

from functools import cache

from tests.support.instances import balancer
from tests.support.pki import Identity, issue, revocation_list

from vrata.base.wire import (
    Certificate,
    DesiredInstance,
    HealthMonitor,
    L7Policy,
    L7Rule,
    Listener,
    ListenerTls,
    Member,
    Pool,
    PoolTls,
)

COMPARE = ("REGEX", "STARTS_WITH", "ENDS_WITH", "CONTAINS", "EQUAL_TO")
TLS_HEADERS = (
    "X-SSL-Client-Verify",
    "X-SSL-Client-Has-Cert",
    "X-SSL-Client-DN",
    "X-SSL-Client-CN",
    "X-SSL-Issuer",
    "X-SSL-Client-SHA1",
    "X-SSL-Client-Not-Before",
    "X-SSL-Client-Not-After",
)


def authority(name: str = "authority") -> Identity:
    """A certificate authority; the same one for the same name."""
    return _authority(name)


def leaf(name: str, by: str = "authority") -> Identity:
    """A certificate for a DNS name; the same one for the same arguments."""
    return _leaf(name, by)


@cache
def _authority(name: str) -> Identity:
    return issue(name, authority=True)


@cache
def _leaf(name: str, by: str) -> Identity:
    return issue(name, name, by=_authority(by))


def certificate(name: str, ref: str | None = None) -> Certificate:
    """Certificate and key of a name, as they cross the wire."""
    return Certificate(ref=ref or f"secret-{name}", pem=leaf(name).cert_pem + "\n" + leaf(name).key_pem)


def rules_of_every_kind() -> tuple[L7Rule, ...]:
    """Every type with every comparison Octavia allows it, inverted and not."""
    keyed = (("HOST_NAME", None), ("PATH", None), ("HEADER", "X-Kind"), ("COOKIE", "kind"), ("SSL_DN_FIELD", "CN"))
    return (
        *(
            L7Rule(id="r", type=kind, compare_type=compare, value="a'b}%[x] c", key=key, invert=True)
            for kind, key in keyed
            for compare in COMPARE
        ),
        L7Rule(id="r", type="FILE_TYPE", compare_type="REGEX", value="jpe?g"),
        L7Rule(id="r", type="FILE_TYPE", compare_type="EQUAL_TO", value="jpg"),
        L7Rule(id="r", type="SSL_CONN_HAS_CERT", compare_type="EQUAL_TO", value="True"),
        L7Rule(id="r", type="SSL_VERIFY_RESULT", compare_type="EQUAL_TO", value="0", invert=True),
    )


def everything() -> DesiredInstance:
    """The instance; certificates are made anew in each process, their files' names are always the same."""
    rules = rules_of_every_kind()
    secure = ListenerTls(
        default_certificate=certificate("www.example.org"),
        sni_certificates=(certificate("shop.example.org"), certificate("blog.example.org")),
        client_authentication="OPTIONAL",
        ca_pem=authority().cert_pem,
        crl_pem=revocation_list(authority(), leaf("revoked")),
        ciphers="ECDHE-ECDSA-AES256-GCM-SHA384:TLS_AES_256_GCM_SHA384",
        versions=("TLSv1.1", "TLSv1.3"),
        alpn_protocols=("h2", "http/1.1", "http/1.0"),
        hsts_max_age=31_536_000,
        hsts_include_subdomains=True,
        hsts_preload=True,
    )
    plain = ListenerTls(default_certificate=certificate("www.example.org"))
    policies = (
        L7Policy(id="p-reject", action="REJECT", rules=rules[:5]),
        L7Policy(id="p-pool", action="REDIRECT_TO_POOL", rules=rules[5:10], redirect_pool_id="pool-secure"),
        L7Policy(
            id="p-url",
            action="REDIRECT_TO_URL",
            rules=rules[10:20],
            redirect_url="https://example.org/100%25?a='b'&c=\"%[src]\"",
            redirect_http_code=308,
        ),
        L7Policy(id="p-prefix", action="REDIRECT_PREFIX", rules=rules[20:], redirect_prefix="https://example.org"),
        L7Policy(id="p-empty", action="REJECT", rules=()),
    )
    return balancer(
        threads=2,
        max_connections=50_000,
        reload_timeout_s=600,
        listeners=(
            Listener(
                id="secure",
                protocol="TERMINATED_HTTPS",
                protocol_port=443,
                default_pool_id="pool-pinged",
                insert_headers=("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto", *TLS_HEADERS),
                tls=secure,
                l7policies=policies,
            ),
            Listener(
                id="default-tls",
                protocol="TERMINATED_HTTPS",
                protocol_port=444,
                default_pool_id="pool-secure",
                tls=plain,
                allowed_cidrs=("192.0.2.0/24",),
            ),
            Listener(id="metrics", protocol="PROMETHEUS", protocol_port=9090),
        ),
        pools=(
            Pool(
                id="pool-pinged",
                protocol="PROXY",
                lb_algorithm="SOURCE_IP_PORT",
                persistence_type="HTTP_COOKIE",
                members=(Member(id="m1", address="10.10.0.21", protocol_port=80, backup=True),),
                healthmonitor=HealthMonitor(id="hm", type="PING", delay=5, timeout=3),
            ),
            Pool(
                id="pool-secure",
                protocol="PROXYV2",
                lb_algorithm="LEAST_CONNECTIONS",
                tls=PoolTls(
                    certificate=certificate("balancer.example.org"),
                    ca_pem=authority().cert_pem,
                    crl_pem=revocation_list(authority(), leaf("revoked")),
                    ciphers="ECDHE-ECDSA-AES128-GCM-SHA256",
                    versions=("TLSv1.2",),
                    alpn_protocols=("h2", "http/1.1"),
                ),
                members=(Member(id="m2", address="fd00::21", protocol_port=443, weight=256, monitor_port=8443),),
                healthmonitor=HealthMonitor(
                    id="hm2", type="HTTP", delay=5, timeout=3, http_version=1.1, domain_name="example.org"
                ),
            ),
        ),
    )
