"""Desired instances for unit and golden tests, and strategies that draw friendly and hostile ones."""

from hypothesis import strategies as st

from vrata.base.wire import (
    DesiredInstance,
    FloatingNat,
    HealthMonitor,
    InstanceKind,
    Leg,
    Listener,
    Member,
    Pool,
    SourceNat,
    Vrrp,
)

HOSTILE = (
    "x\n    server evil 192.0.2.66:80",
    "x\r\nbind :9999",
    "a b",
    "a' server evil 192.0.2.66:80 '",
    'a" server evil 192.0.2.66:80 "',
    "a\\",
    "#",
    "${HOME}",
    "%[env(HOME)]",
    "a\0b",
    "}\nvrrp_script x {",
    "; drop",
    "../../etc/passwd",
    "",
    "a\u2028b",
    "a" * 4096,
)


def balancer(**changes: object) -> DesiredInstance:
    """A balancer with everything: three listeners, monitors, persistence, limits, two legs, both families."""
    values: dict[str, object] = {
        "id": "11111111-aaaa-4aaa-8aaa-000000000001",
        "kind": InstanceKind.BALANCER,
        "owner_id": "lb-1",
        "generation": 1,
        "legs": (
            Leg(
                name="tenant",
                physical_network="tenant",
                mac_address="02:00:00:00:00:01",
                fixed=("10.10.0.11/24", "fd00::11/64"),
                virtual=("10.10.0.100/24", "fd00::100/64"),
                gateway="10.10.0.1",
            ),
            Leg(
                name="external",
                physical_network="external",
                mac_address="02:00:00:00:00:02",
                virtual=("203.0.113.20/24",),
                gateway="203.0.113.1",
            ),
        ),
        "vrrp": Vrrp(
            router_id=7,
            priority=254,
            advert_interval_ms=100,
            source="10.10.0.11",
            peers=("10.10.0.12",),
            peer_instances=("22222222-bbbb-4bbb-8bbb-000000000002",),
        ),
        "listeners": (
            Listener(
                id="web",
                protocol="HTTP",
                protocol_port=80,
                default_pool_id="pool-http",
                connection_limit=2000,
                allowed_cidrs=tuple(f"198.51.{n}.0/24" for n in range(90)),
                insert_headers=("X-Forwarded-For", "X-Forwarded-Port", "X-Forwarded-Proto"),
            ),
            Listener(id="tls", protocol="HTTPS", protocol_port=443, default_pool_id="pool-tls", timeout_tcp_inspect=5),
            Listener(id="proxied", protocol="TCP", protocol_port=8443, default_pool_id="pool-proxy"),
            Listener(id="bare", protocol="TCP", protocol_port=9000),
        ),
        "pools": (
            Pool(
                id="pool-http",
                protocol="HTTP",
                lb_algorithm="ROUND_ROBIN",
                persistence_type="APP_COOKIE",
                cookie_name="JSESSIONID",
                members=(
                    Member(id="m1", address="10.10.0.21", protocol_port=8000, weight=3),
                    Member(id="m2", address="fd00::22", protocol_port=8000, backup=True, monitor_address="fd00::23"),
                ),
                healthmonitor=HealthMonitor(
                    id="hm",
                    type="HTTP",
                    delay=5,
                    timeout=3,
                    url_path="/health?a='b'&c=%20",
                    http_version=1.1,
                    domain_name="example.org",
                    expected_codes="200-204",
                ),
            ),
            Pool(
                id="pool-tls",
                protocol="HTTPS",
                lb_algorithm="SOURCE_IP",
                persistence_type="SOURCE_IP",
                members=(Member(id="m3", address="10.10.0.23", protocol_port=443, monitor_port=8443),),
                healthmonitor=HealthMonitor(id="hm2", type="TLS-HELLO", delay=5, timeout=3),
            ),
            Pool(
                id="pool-proxy",
                protocol="PROXYV2",
                lb_algorithm="LEAST_CONNECTIONS",
                members=(Member(id="m4", address="10.10.0.24", protocol_port=443),),
                healthmonitor=HealthMonitor(id="hm3", type="HTTPS", delay=5, timeout=3),
            ),
        ),
    }
    return DesiredInstance(**(values | changes))  # type: ignore[arg-type]


def gateway(**changes: object) -> DesiredInstance:
    """A gateway with two floating addresses."""
    base = balancer()
    values: dict[str, object] = {
        "kind": InstanceKind.GATEWAY,
        "listeners": (),
        "pools": (),
        "floating": (
            FloatingNat(floating="203.0.113.21", fixed="10.10.0.21"),
            FloatingNat(floating="203.0.113.22", fixed="10.10.0.22"),
        ),
        "snat": SourceNat(address="203.0.113.5", source_cidrs=("10.10.0.0/24",)),
        "legs": base.legs,
    }
    return balancer(**(values | changes))


members = st.builds(
    Member,
    id=st.sampled_from(["m1", "m2", "m3"]),
    address=st.sampled_from(["10.10.0.21", "10.10.0.22", "fd00::22"]),
    protocol_port=st.integers(1, 65535),
    weight=st.integers(0, 256),
    backup=st.booleans(),
)
pools = st.builds(
    Pool,
    id=st.just("pool-1"),
    protocol=st.sampled_from(["HTTP", "PROXY", "PROXYV2"]),
    lb_algorithm=st.sampled_from(["ROUND_ROBIN", "LEAST_CONNECTIONS", "SOURCE_IP"]),
    persistence_type=st.sampled_from([None, "SOURCE_IP", "HTTP_COOKIE"]),
    members=st.lists(members, max_size=3, unique_by=lambda m: m.id).map(tuple),
    healthmonitor=st.none()
    | st.builds(
        HealthMonitor, id=st.just("hm"), type=st.sampled_from(["TCP", "HTTP"]), delay=st.just(1), timeout=st.just(1)
    ),
)
listeners = st.builds(
    Listener,
    id=st.sampled_from(["l1", "l2"]),
    protocol=st.sampled_from(["TCP", "HTTP"]).filter(lambda p: p == "HTTP"),
    protocol_port=st.integers(1, 65535),
    default_pool_id=st.sampled_from([None, "pool-1"]),
)


@st.composite
def desired_balancers(draw: st.DrawFn) -> DesiredInstance:
    """Balancers of one id that differ in everything that may change during a life."""
    whole = balancer()
    return balancer(
        generation=draw(st.integers(1, 9)),
        legs=whole.legs[: draw(st.integers(1, 2))],
        listeners=draw(st.lists(listeners, max_size=2, unique_by=lambda x: x.id).map(tuple)),
        pools=(draw(pools),),
    )
