"""What `vrata top` makes of the cloud's answers."""

from typing import Any

from vrata.cli.rates import EVENT_COLUMNS, PAIR_COLUMNS, Sample, event_rows, pair_rows, rate_of

NOW = 1_800_000_000.0


def instance(name: str, host: str, state: str, connections: int = 0, **more: Any) -> dict[str, Any]:
    stats = {"active_connections": 3, "bytes_in": 10 * connections, "bytes_out": 1000 * connections}
    return {
        "id": name, "host": host, "alive": True, "state": state, "leaving": False, "error": None,
        "stats": stats | {"request_errors": 0, "total_connections": connections},
    } | more  # fmt: skip


def pair(*instances: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "5f0c", "name": "shop", "kind": "balancer", "address": "10.10.0.7", "provisioning_status": "ACTIVE",
        "operating_status": "ONLINE", "instances": list(instances), "failover": None,
    } | more  # fmt: skip


def shown(before: dict[str, Any], after: dict[str, Any], seconds: float = 2.0) -> dict[str, str]:
    rows = pair_rows(Sample(10.0, [before]), Sample(10.0 + seconds, [after]), NOW)
    assert len(rows) == 1
    return dict(zip(PAIR_COLUMNS, rows[0], strict=True))


def test_a_pair_shows_its_roles_and_what_went_through_both_since() -> None:
    before = pair(instance("a", "host-a", "MASTER", 1000), instance("b", "host-b", "BACKUP", 500))
    after = pair(instance("a", "host-a", "MASTER", 3400), instance("b", "host-b", "BACKUP", 500))
    row = shown(before, after)
    assert (row["active"], row["standby"], row["status"]) == ("host-a", "host-b", "ACTIVE ONLINE")
    assert (row["conn/s"], row["in B/s"], row["out B/s"], row["open"]) == ("1.2k", "12.0k", "1.2M", "6")
    assert (row["last failover"], row["took"], row["cause"]) == ("-", "-", "-")


def test_one_look_has_no_rates() -> None:
    one = pair(instance("a", "host-a", "MASTER", 1000))
    row = shown(one, one, seconds=0.0)
    assert (row["conn/s"], row["in B/s"], row["out B/s"]) == ("0", "0", "0")


def test_a_counter_that_began_anew_counts_from_zero_and_a_new_instance_from_its_first_look() -> None:
    known = {"a": {"bytes_in": 500}}
    again, new = {"id": "a", "stats": {"bytes_in": 40}}, {"id": "c", "stats": {"bytes_in": 7000}}
    assert rate_of([again], known, "bytes_in", 2.0) == 20
    assert rate_of([new], known, "bytes_in", 2.0) == 0


def test_the_last_failover_is_told_with_its_length_and_cause() -> None:
    last = {"at": NOW - 90, "silent_s": 0.143, "cause": "silence"}
    row = shown(one := pair(instance("a", "host-a", "MASTER"), failover=last), one)
    assert (row["last failover"], row["took"], row["cause"]) == ("90.0 s ago", "143 ms", "silence")


def test_a_standby_that_would_not_take_over_says_why_and_a_dead_active_one_is_none() -> None:
    dead, faulty = instance("a", "host-a", "MASTER", alive=False), instance("b", "host-b", "FAULT")
    row = shown(one := pair(dead, faulty), one)
    assert (row["active"], row["standby"]) == ("none", "host-a (silent), host-b (fault)")


def test_an_instance_that_leaves_is_active_as_long_as_it_is_and_never_a_standby() -> None:
    leaving = instance("a", "host-a", "MASTER", leaving=True)
    row = shown(one := pair(leaving, instance("b", "host-b", "BACKUP")), one)
    assert (row["active"], row["standby"]) == ("host-a", "host-b")
    gone = instance("a", "host-a", "BACKUP", leaving=True)
    row = shown(one := pair(gone, instance("b", "host-b", "MASTER")), one)
    assert (row["active"], row["standby"]) == ("host-b", "none")


def test_events_say_what_happened_to_whom() -> None:
    common = {"host": "host-b", "owner_id": "5f0c", "instance_id": "b", "cause": None, "silent_s": None}
    took = common | {"at": NOW - 2, "before": "BACKUP", "after": "MASTER", "lasted_s": 60.0, "silent_s": 0.0,
                     "cause": "good-bye"}  # fmt: skip
    host = common | {"at": NOW - 7200, "before": "ALIVE", "after": "SILENT", "lasted_s": None, "silent_s": 2.1,
                     "owner_id": ""}  # fmt: skip
    built = common | {"at": NOW - 300_000, "before": "PLACED", "after": "BUILT", "lasted_s": 0.4, "owner_id": "gone"}
    rows = [
        dict(zip(EVENT_COLUMNS, row, strict=True)) for row in event_rows([took, host, built], {"5f0c": "shop"}, NOW)
    ]
    assert [row["name"] for row in rows] == ["shop", "-", "gone"]
    assert [row["what"] for row in rows] == ["BACKUP → MASTER", "ALIVE → SILENT", "PLACED → BUILT"]
    assert [row["after"] for row in rows] == ["60.0 s", "-", "400 ms"]
    assert [row["silence"] for row in rows] == ["0 ms", "2.1 s", "-"]
    assert [row["when"] for row in rows] == ["2.0 s ago", "2 h ago", "3 d ago"]
    assert rows[0]["cause"] == "good-bye"
