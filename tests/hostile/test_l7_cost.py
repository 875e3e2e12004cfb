"""A tenant's regular expression in an L7 rule costs HAProxy at most 5 ms for the worst text that fits into a request."""

import contextlib
import itertools
import socket
import subprocess
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.kubernetes import wait_for
from tests.support.ports import free_port
from tests.system.ingress.site import reachable

from vrata.cloud.balancing.broken import Broken
from vrata.cloud.balancing.rules import check_listener_rules, check_rule
from vrata.haproxy.l7 import l7_lines
from vrata.haproxy.l7_cost import LONGEST_HOST, MOST_COOKIES, MOST_SAME_COOKIES, MOST_VALUES
from vrata.haproxy.model import Condition, L7Action, L7Rule, Match, Subject

MOST_MS = 5.0
LONG = 14_000  # bytes
COSTLY = {
    "three runs": "^[a-z]*[a-z]*[a-z]*[0-9]",
    "bounded runs": "[a-z]{0,999}[a-z]{0,999}[a-z]{0,99}[0-9]",
    "nested": "^(a+)+[0-9]$",
    "nested groups": "((a{0,9}){0,9}){0,9}[0-9]",
    "alternatives": "(a|a)" * 20 + "[A-Z]",
    "options": "a?" * 25 + "a" * 25 + "[0-9]",
    "look-ahead": "(?=(a+))a*b*(?=a+[0-9])[A-Z]",
    "searched": "a.*b*.*[0-9]",
    "look-aheads": "(?=.*c)(?=.*d).",
    "a look-ahead first": "(?=.*c)[0-9]",
    "a long run": ".{1,9999}!",
}


_TYPES = {
    Subject.HEADER: "HEADER",
    Subject.COOKIE: "COOKIE",
    Subject.HOST: "HOST_NAME",
    Subject.PATH: "PATH",
    Subject.FILE_TYPE: "FILE_TYPE",
}
_COMPARES = {Match.REGEX: "REGEX", Match.CONTAINS: "CONTAINS", Match.EQUAL: "EQUAL_TO", Match.STARTS: "STARTS_WITH"}


def rule(name: str, pattern: str, *, invert: bool = False) -> L7Rule:
    """To be refused where a header matches."""
    condition = Condition(Subject.HEADER, Match.REGEX, pattern, key=name, invert=invert)
    return L7Rule(name, L7Action.REJECT, (condition,))


def written(path: Path, lines: list[str], port: int) -> None:
    """A configuration with these lines in its frontend."""
    head = ["global", "  nbthread 1", "defaults", "  mode http"]
    head += [f"  timeout {kind} 30s" for kind in ("client", "server", "connect")]
    text = [*head, "frontend f", f"  bind 127.0.0.1:{port}", *(f"  {line}" for line in lines), ""]
    path.write_text("\n".join(text))


PLAIN = "a" * 200 + "z"
KINDS = {
    "regexes of a header": [Condition(Subject.HEADER, Match.REGEX, one, key="many") for one in COSTLY.values()],
    "regexes of a path": [Condition(Subject.PATH, Match.REGEX, one) for one in COSTLY.values()],
    "regexes of a cookie": [Condition(Subject.COOKIE, Match.REGEX, one, key="z") for one in COSTLY.values()],
    "contained": [
        Condition(Subject.HEADER, Match.CONTAINS, PLAIN, key="many"),
        Condition(Subject.PATH, Match.CONTAINS, PLAIN),
    ],
    "contained in a host": [Condition(Subject.HOST, Match.CONTAINS, PLAIN)],
    "compared": [
        Condition(Subject.HEADER, Match.EQUAL, "z", key="many"),
        Condition(Subject.COOKIE, Match.EQUAL, "z", key="z"),
        Condition(Subject.FILE_TYPE, Match.EQUAL, "z"),
        Condition(Subject.HEADER, Match.STARTS, PLAIN, key="many"),
    ],
}
KINDS["mixed"] = [one for some in KINDS.values() for one in some]


def most_rules(kinds: list[Condition]) -> tuple[L7Rule, ...]:
    """As many as a listener may have, none of which matches."""
    inverted = itertools.cycle(replace(one, invert=True) for one in kinds)
    taken: list[Condition] = []
    with contextlib.suppress(Broken):
        for one in inverted:
            check_listener_rules([(_TYPES[each.subject], _COMPARES[each.match]) for each in (*taken, one)])
            taken.append(one)
    last = Condition(Subject.PATH, Match.EQUAL, "/nothing")
    starts = range(0, len(taken), 49)
    return tuple(L7Rule(f"p{start}", L7Action.REJECT, (*taken[start : start + 49], last)) for start in starts)


@pytest.fixture
def haproxy(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """Its pid and port; each pattern is for a header of its own."""
    port = free_port()
    lines = l7_lines(tuple(rule(f"h{number}", pattern) for number, pattern in enumerate(COSTLY.values())))
    lines += l7_lines((rule("plain", "^/(shop|cart)/[0-9]+$"),))
    lines = l7_lines(most_rules(KINDS[request.param])) if hasattr(request, "param") else lines
    written(tmp_path / "haproxy.cfg", [*lines, "http-request return status 200"], port)
    process = subprocess.Popen(["haproxy", "-db", "-f", str(tmp_path / "haproxy.cfg")])
    try:
        wait_for(lambda: reachable(port), "HAProxy listens")
        yield process.pid, port
    finally:
        process.kill()
        process.wait()


def cpu_ms(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e6


MANY = {
    "values": {"many": ",".join("a" * 6500)},
    "allowed values": {"many": ",".join(["a" * 800] * MOST_VALUES)},
    "one value": {"many": "a" * LONG},
    "shorter values": {"many": ",".join(["a" * 50] * MOST_VALUES)},
    "cookies": {"Cookie": ";".join(["a=1"] * 3400)},
    "other cookies": {"Cookie": ";".join([f"a={'a' * 60}"] * MOST_COOKIES)},
    "same cookies": {"Cookie": ";".join([f"z={'a' * 3000}"] * MOST_SAME_COOKIES)},
    "hosts": {"Host": ",".join("a" * 6500)},
    "a long host": {"Host": "a" * LONG},
    "a host": {"Host": "a" * LONGEST_HOST},
    "headers": {f"h{number}": "a" * 100 for number in range(95)},
    "a path": {},
}


@pytest.mark.parametrize("haproxy", KINDS, indirect=True)
def test_all_rules_of_a_listener_together_cost_no_more_than_5_ms(haproxy: tuple[int, int]) -> None:
    pid, port = haproxy
    costs = {}
    for what, headers in MANY.items():
        path = "/" + "a" * (LONG if what == "a path" else 1000)
        text = "".join(f"{name}: {value}\r\n" for name, value in ({"Host": "a"} | headers).items())
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            before = cpu_ms(pid)  # HAProxy remembers texts that it has seen: the first look at one counts
            connection.sendall(f"GET {path} HTTP/1.1\r\n{text}Connection: close\r\n\r\n".encode())
            # 431: one more would not fit. 400: HAProxy 3.0 takes no Host with commas.
            assert int(connection.makefile("rb").readline().split()[1]) in (200, 431, *([400] * (what == "hosts"))), (
                what
            )
            costs[what] = cpu_ms(pid) - before
    assert {what: cost for what, cost in costs.items() if cost > MOST_MS} == {}


PIECES = [
    *(
        "a",
        "b+",
        "[a-z]*",
        "(a|b)",
        "(a)",
        "\\1",
        "\\2",
        "\\01",
        "[\\1]",
        "(?P<n>a)",
        "(?P=n)",
        "(?(1)a|b)",
        "(?a)",
        "(?i)",
    ),
    *("(?iu:x)", "(?u)", "\\u0041", "\\U0001F600", "\\x41", "\\\\1", "a{70000}", "(ab){200}", "{2}", "{9999}", "{,3}"),
    *(
        "[[:alpha:]]",
        "[:a:]",
        "[.a.]",
        "[.]",
        "[=]",
        "[[.a.]]",
        "[]a]",
        "[^]]",
        "(?<=a)b",
        "(?!a)",
        "(?>a)",
        "a++",
        "\\Z",
    ),
    *("(?#x)", "$", "^", "\\b", "(", ")", "{", "*", "?", "|", ".", "\\-", "'", '"', "#", " ", "%", "(?x)", "(?s-i:x)"),
]


def test_haproxy_takes_every_regular_expression_that_the_api_takes(tmp_path: Path) -> None:
    def taken(pattern: str) -> bool:
        with warnings.catch_warnings(), contextlib.suppress(Broken):
            warnings.simplefilter("ignore")  # of Python, for what it will read in another way some day
            return bool(check_rule({"type": "PATH", "compare_type": "REGEX", "value": pattern}))
        return False

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.lists(st.sampled_from(PIECES), min_size=1, max_size=4).map("".join), min_size=40, max_size=80))
    def check(patterns: list[str]) -> None:
        conditions = [
            Condition(Subject.PATH, Match.REGEX, pattern) for pattern in {*patterns, *PIECES} if taken(pattern)
        ]
        rules = tuple(L7Rule(f"p{number}", L7Action.REJECT, (one,)) for number, one in enumerate(conditions))
        written(tmp_path / "haproxy.cfg", l7_lines(rules), 1)
        found = subprocess.run(
            ["haproxy", "-c", "-f", str(tmp_path / "haproxy.cfg")], check=False, capture_output=True, text=True
        )
        assert found.returncode == 0, found.stderr

    check()


@pytest.mark.parametrize(
    "pattern", ["(a)\\1", "(?P<n>a)(?P=n)", "(?a)x", "\\u0041", "a{70000}", "[:a:]", "([ab]{1,9}c){1000}"]
)
def test_what_haproxy_would_refuse_is_refused_with_the_remedy(pattern: str) -> None:
    with pytest.raises(Broken, match=r"Invalid regular expression.*(use no|less often)"):
        check_rule({"type": "PATH", "compare_type": "REGEX", "value": pattern})


def status(port: int, name: str, value: str) -> int:
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(f"GET / HTTP/1.1\r\nHost: a\r\n{name}: {value}\r\nConnection: close\r\n\r\n".encode())
        return int(connection.makefile("rb").readline().split()[1])


def test_no_pattern_costs_more_than_5_ms(haproxy: tuple[int, int]) -> None:
    pid, port = haproxy
    costs = {}
    for number, (what, pattern) in enumerate(COSTLY.items()):
        asked = {"type": "HEADER", "compare_type": "REGEX", "key": "a", "value": pattern, "invert": False}
        assert check_rule(asked)["value"] == pattern, "the API takes it"
        for length in (30, 2000, LONG):
            before = cpu_ms(pid)
            assert status(port, f"h{number}", "a" * length) in (200, 403)
            costs[what, length] = cpu_ms(pid) - before
    assert {what: cost for what, cost in costs.items() if cost > MOST_MS} == {}


def test_nobody_sets_limits_of_his_own() -> None:
    with pytest.raises(Broken, match="Invalid regular expression"):
        check_rule({"type": "PATH", "compare_type": "REGEX", "value": "(*LIMIT_MATCH=4000000000)^(a+)+[0-9]$"})


def test_what_matches_still_does(haproxy: tuple[int, int]) -> None:
    _, port = haproxy
    assert status(port, "plain", "/shop/12") == 403
    assert status(port, "plain", "/shop/x") == 200
    assert status(port, "h0", "a" * 200 + "1") == 403
    assert status(port, "h2", "a" * 200 + "1") == 403
