"""What one call may cost: filters, patterns, fields, waiting work, guesses of passwords, and lines of the audit log."""

import asyncio
import json
import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud import fields, listing
from vrata.cloud.audit import ANONYMOUS_PER_S, Audit, Trace
from vrata.cloud.balancing.store import DIALECT as OCTAVIA
from vrata.cloud.compute.servers import _pattern
from vrata.cloud.fields import Field, Problem
from vrata.cloud.http import ApiError, Call, Caller, decode
from vrata.cloud.identity.attempts import FREE, KEPT, PAUSE_MAX_S, Attempts
from vrata.cloud.identity.auth import Login
from vrata.cloud.service import Service
from vrata.cloud.settings import Settings
from vrata.cloud.slow import IN_ALL, KNOWN, PER_OWNER, Busy, SlowWork
from vrata.cloud.store import Store

# Names -----------------------------------------------------------------------------------------------------------------

NAMES = st.text("ab.", max_size=12)
PATTERNS = st.lists(st.sampled_from(["a", "b", ".", ".*", "^", "$", r"\."]), max_size=8).map("".join)


@given(PATTERNS, NAMES)
def test_a_name_matches_as_the_regular_expression_does(pattern: str, name: str) -> None:
    assert bool(_pattern(pattern).match(name)) == bool(re.search(pattern, name))


@given(st.text(max_size=20), st.text(max_size=20).filter(lambda text: "\n" not in text))
def test_all_else_in_a_pattern_is_itself(pattern: str, name: str) -> None:
    plain = "".join(letter for letter in pattern if letter not in ".^$\\*")
    assert bool(_pattern(plain).match(name)) == (plain in name)


# Lists -----------------------------------------------------------------------------------------------------------------

ROW = st.fixed_dictionaries(
    {
        "id": st.uuids().map(str), "name": st.sampled_from(["a", "b", ""]), "up": st.booleans(),
        "nothing": st.none(), "tags": st.lists(st.sampled_from("xyz"), max_size=3),
        "ips": st.lists(st.fixed_dictionaries({"ip": st.sampled_from("12"), "id": st.sampled_from("pq")}), max_size=3),
    }
)  # fmt: skip
WORDS = st.sampled_from(["a", "b", "", "True", "false", "0", "null", "x", "ip=1", "ip=2", "p", "q", "id=p", "="])
ASKED = st.lists(st.tuples(st.sampled_from(["name", "up", "nothing", "tags2", "ips", "fields"]), WORDS), max_size=6)


def call(query: list[tuple[str, str]]) -> Call:
    return Call(None, Caller(), Settings(), "GET", {}, query, None, "http://x", "http://x/y")  # type: ignore[arg-type]


def naive(row: dict[str, Any], name: str, values: list[str]) -> bool:
    """The meaning of a filter, value by value."""
    actual = row.get(name)
    if isinstance(actual, bool):
        return any(value.lower() in (listing.TRUE if actual else listing.FALSE) for value in values)
    if isinstance(actual, list):
        return any(
            str(item.get(value.partition("=")[0])) == value.partition("=")[2] or item["id"] == value
            for item in actual
            for value in values
            if "=" in value or item["id"] == value
        )
    if actual is None:
        return any(value in {"", "null", "None"} for value in values)
    return str(actual) in values


@given(st.lists(ROW, max_size=6), ASKED)
def test_filters_that_are_read_once_mean_what_they_mean_one_by_one(
    rows: list[dict[str, Any]], query: list[tuple[str, str]]
) -> None:
    known = ["id", "name", "up", "nothing", "ips"]
    wanted: dict[str, list[str]] = {}
    for name, value in query:
        if name in known:
            wanted.setdefault(name, []).append(value)
    expected = [row["id"] for row in rows if all(naive(row, name, values) for name, values in wanted.items())]
    asked = [(name, value) for name, value in query if name in known]
    if len(asked) < sum(name != "fields" for name, _ in query):
        with pytest.raises(ApiError, match="is invalid attribute for filtering"):
            listing.page(call(query), rows, "things", listing.NEUTRON, known=known)
    shown = listing.page(call(asked), rows, "things", listing.NEUTRON, known=known)["things"]
    assert [row["id"] for row in shown] == expected


@given(st.lists(ROW, max_size=6), st.lists(st.sampled_from(["name", "id"]), max_size=30))
def test_a_sort_key_that_comes_again_changes_nothing(rows: list[dict[str, Any]], keys: list[str]) -> None:
    many = listing.page(call([("sort_key", key) for key in keys]), rows, "x", listing.NEUTRON, known=["id", "name"])[
        "x"
    ]
    once = [("sort_key", key) for key in dict.fromkeys(keys)]
    assert many == listing.page(call(once), rows, "x", listing.NEUTRON, known=["id", "name"])["x"]


# Fields ----------------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=300) | st.dictionaries(st.text(max_size=10), inner, max_size=10),
    max_leaves=20,
)


@given(st.sampled_from(sorted(fields._CHECKS)), JSON)
def test_what_a_field_lets_in_fits_its_column(kind: str, value: Any) -> None:
    try:
        found = Field(kind).check("x", value)
    except Problem:
        return
    if kind == "int" and found is not None:
        assert -(2**31) < found < 2**31
    if kind in {"str", "uuid", "ip", "address", "cidr"} and found is not None:
        assert len(found) <= 255
        assert "\0" not in found
    if kind in {"list", "dict", "strings", "records"} and found is not None:
        assert len(found) <= 100


# Slow work -------------------------------------------------------------------------------------------------------------


async def test_one_owner_has_one_job_at_a_time_and_others_go_between() -> None:
    work, order = SlowWork("test", 1), list[str]()
    gate = threading.Event()

    def job(name: str) -> None:
        gate.wait(10)
        order.append(name)

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        for number in range(PER_OWNER):
            group.create_task(work.run("greedy", lambda number=number: job(f"g{number}")))  # type: ignore[misc]
        await asyncio.sleep(0)
        group.create_task(work.run("modest", lambda: job("m")))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await work.run("greedy", lambda: None)
        gate.set()
    assert order.index("m") <= 2
    assert len(order) == PER_OWNER + 1
    await work.run("greedy", lambda: None)  # all of it is given back
    work.close()


JOBS = st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(KNOWN, 3)), min_size=1, max_size=60)


@given(JOBS, st.integers(1, 3), st.data())
async def test_the_lowest_rank_has_the_next_turn_and_the_highest_is_refused(
    jobs: list[tuple[str, int]], threads: int, data: st.DataObject
) -> None:
    work, started, refused = SlowWork("test", threads), list[int](), list[int]()
    ends = [asyncio.Event() for _ in jobs]

    async def job(number: int) -> None:
        try:
            async with work.turn(*jobs[number]):
                started.append(number)
                await ends[number].wait()
        except Busy:
            refused.append(number)

    async def settle() -> None:
        for _ in range(4):
            await asyncio.sleep(0)

    tasks = []
    for number in range(len(jobs)):
        tasks.append(asyncio.create_task(job(number)))
        await settle()
    assert not refused or len(jobs) > PER_OWNER
    running, since = set(started), {number: number for number in range(len(jobs))}
    while running:
        waiting = {n for n in range(len(jobs)) if n not in {*started, *refused} and not tasks[n].done()}
        if data.draw(st.booleans()) and waiting:
            gone: int = data.draw(st.sampled_from(sorted(waiting)))
            tasks[gone].cancel()
            waiting.remove(gone)
        ended: int = data.draw(st.sampled_from(sorted(running)))
        ends[ended].set()
        running.remove(ended)
        before = len(started)
        since |= {n: len(jobs) + before for n in waiting if jobs[n][0] == jobs[ended][0]}
        await settle()
        owners = {jobs[n][0] for n in running}
        ready = [n for n in sorted(waiting) if jobs[n][0] not in owners]
        assert started[before:] == ([min(ready, key=lambda n: (jobs[n][1], since[n]))] if ready else [])
        running |= set(started[before:])
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (work._free, work._waiting, work._running) == (threads, [], set())
    work.close()


async def test_who_failed_makes_room_for_who_did_not() -> None:
    work = SlowWork("test", 1)
    crowd = [asyncio.ensure_future(work.run(f"address-{n}", lambda: None, rank=1)) for n in range(IN_ALL)]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await work.run("one more of them", lambda: None, rank=1)
    await work.run("somebody new", lambda: None, rank=0)
    results = await asyncio.gather(*crowd, return_exceptions=True)
    assert [isinstance(one, Busy) for one in results] == [False] * (IN_ALL - 1) + [True]
    work.close()


# Logins ----------------------------------------------------------------------------------------------------------------


@given(st.integers(0, 40))
def test_guesses_are_paused_longer_and_longer_but_nobody_is_locked_out_elsewhere(failures: int) -> None:
    attempts, now = Attempts(), 0.0
    before = 0.0
    for _ in range(failures):
        assert attempts.failed("1.1.1.1", "admin", now) > 0
        pause = attempts.pause_s("1.1.1.1", "admin", now)
        assert before <= pause <= PAUSE_MAX_S
        before = pause
    assert (before > 0) == (failures > FREE)
    assert attempts.pause_s("2.2.2.2", "admin", now) == 0
    assert attempts.pause_s("1.1.1.1", "demo", now) == 0
    attempts.succeeded("1.1.1.1", "admin")
    assert attempts.pause_s("1.1.1.1", "admin", now) == 0


def test_an_address_that_guesses_at_many_users_is_paused_for_all() -> None:
    attempts = Attempts()
    for number in range(200):
        attempts.failed("1.1.1.1", f"user-{number}", 0.0)
    assert attempts.pause_s("1.1.1.1", "another", 0.0) > 0
    assert attempts.pause_s("1.1.1.1", "another", 3600.0) == 0


async def test_an_ipv6_customer_is_one_client_for_logins(tmp_path: Path) -> None:
    """A customer has a /64: another address of it is no fresh start, another /64 is."""
    service = Service(Store(f"sqlite:///{tmp_path}/unused.db"), Settings())
    login = Login(service._frame)

    async def guess(address: str) -> int:
        with pytest.raises(ApiError) as refused:
            await login._prove(Trace("req-1", address), "admin", lambda: False)
        return refused.value.status

    async with asyncio.timeout(60):
        assert {*await asyncio.gather(*(guess(f"2001:db8:0:1::{n:x}") for n in range(FREE + 1)))} == {401}
        assert await guess("2001:db8:0:1:ffff::1") == 429
        assert await guess("2001:db8:0:2::1") == 401
    service.close()


def test_who_logged_in_before_is_checked_first_and_who_guesses_last() -> None:
    attempts = Attempts()
    attempts.succeeded("1.1.1.1", "demo")
    attempts.failed("2.2.2.2", "demo", 0.0)
    attempts.failed("2.2.2.2", "admin", 0.0)
    ranks = [attempts.rank(address, "demo", 1.0) for address in ("1.1.1.1", "3.3.3.3", "2.2.2.2")]
    assert ranks == [KNOWN, 0, 2]
    attempts.failed("1.1.1.1", "demo", 0.0)
    assert attempts.rank("1.1.1.1", "demo", 1.0) == 1


def test_counters_have_a_bound() -> None:
    attempts = Attempts()
    for number in range(KEPT + 1):
        attempts.failed(f"address-{number}", "x", 0.0)
        attempts.succeeded(f"address-{number}", "y")
    assert max(len(attempts._counts), len(attempts._known)) <= KEPT


# Audit -----------------------------------------------------------------------------------------------------------------


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_anonymous_flood_costs_the_disk_little_and_is_counted(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit")
    for _ in range(10 * ANONYMOUS_PER_S):
        audit.answered(Trace("req-1", "1.1.1.1"), "identity", "POST", "/x", 401, 0.1)
    audit.answered(Trace("req-2", "1.1.1.1", user_id="u"), "identity", "POST", "/x", 201, 0.1)
    found = lines(tmp_path / "audit")
    assert len(found) <= 2 * ANONYMOUS_PER_S + 1  # a second may end in between
    assert sum(line.get("left_out", 0) for line in found) + len(found) == 10 * ANONYMOUS_PER_S + 1
    assert found[-1]["result"] == "success"


def test_a_rotated_file_is_opened_anew_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    audit = Audit(path)
    audit.answered(Trace("req-1", user_id="u"), "network", "POST", "/x", 201, 0.1)
    path.rename(tmp_path / "audit.1")
    audit.answered(Trace("req-2", user_id="u"), "network", "POST", "/x\n{", 201, 0.1)
    assert [line["request_id"] for line in lines(path)] == ["req-2"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_reads_are_written_down_on_demand_only(tmp_path: Path) -> None:
    for requests in (False, True):
        audit = Audit(tmp_path / str(requests), requests=requests)
        audit.answered(Trace("req-1", user_id="u"), "network", "GET", "/x", 200, 0.1)
    assert lines(tmp_path / "False") == []
    assert [line["event"] for line in lines(tmp_path / "True")] == ["request"]


@given(st.text())
def test_a_text_with_a_nul_is_refused_and_no_other(text: str) -> None:
    raw = msgspec.json.encode({"name": text})
    if "\0" in text:
        with pytest.raises(ApiError, match="NUL"):
            decode(raw, OCTAVIA)
    else:
        assert decode(raw, OCTAVIA) == {"name": text}
