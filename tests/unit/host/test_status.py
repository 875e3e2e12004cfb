"""What HAProxy's statistics mean to Octavia."""

from tests.support.instances import balancer

from vrata.base.wire import VrrpState
from vrata.haproxy.runtime import parse_statistics
from vrata.host.status import adopted_state, listener_stats, member_statuses

CSV = """# pxname,svname,scur,stot,bin,bout,ereq,status,
web,FRONTEND,2,9,100,200,1,OPEN,
pool-http:web,m1,0,0,0,0,,UP 1/2,
pool-http:web,m2,0,0,0,0,,DOWN,
pool-tls:tls,m3,0,0,0,0,,no check,
"""


def test_members_have_octavias_statuses() -> None:
    rows = parse_statistics(CSV)
    assert member_statuses(balancer(), rows) == {"m1": "ONLINE", "m2": "ERROR", "m3": "NO_MONITOR", "m4": "OFFLINE"}


def test_counters_are_those_of_the_frontend() -> None:
    stats = listener_stats(balancer(), parse_statistics(CSV))
    assert set(stats) == {"web"}
    assert (stats["web"].active_connections, stats["web"].total_connections, stats["web"].request_errors) == (2, 9, 1)


def test_what_is_no_statistics_is_empty() -> None:
    assert parse_statistics("Unknown command") == ()


def test_the_state_of_an_adopted_instance_is_judged_by_what_it_holds() -> None:
    assert adopted_state(keepalived_runs=True, holds_virtual=True, marked_unfit=False) is VrrpState.MASTER
    assert adopted_state(keepalived_runs=True, holds_virtual=False, marked_unfit=True) is VrrpState.FAULT
    assert adopted_state(keepalived_runs=True, holds_virtual=False, marked_unfit=False) is VrrpState.BACKUP
    assert adopted_state(keepalived_runs=False, holds_virtual=True, marked_unfit=False) is VrrpState.UNKNOWN
