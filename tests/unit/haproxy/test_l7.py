"""L7 rules as lines: their order, and the limits of what they say."""

import pytest

from vrata.base.errors import InvalidInput
from vrata.haproxy.l7 import l7_lines
from vrata.haproxy.model import Condition, L7Action, L7Rule, Match, Subject

ROOT = Condition(Subject.PATH, Match.EQUAL, "/")


def test_after_a_rule_that_chooses_a_backend_every_other_one_asks_whether_it_did() -> None:
    rules = (
        L7Rule("a", L7Action.REJECT, (ROOT,)),
        L7Rule("b", L7Action.BACKEND, (ROOT,), "pool:l"),
        L7Rule("c", L7Action.REJECT, (ROOT,)),
    )
    assert [line for line in l7_lines(rules) if not line.startswith("acl")] == [
        "http-request deny if l7:a:0",
        "http-request set-var(txn.vrata_pool) str(b) if l7:b:0",
        "http-request deny if !l7-chosen l7:c:0",
        "use_backend pool:l if { var(txn.vrata_pool) -m str b }",
    ]


def test_a_rule_without_conditions_is_never_met() -> None:
    assert l7_lines((L7Rule("a", L7Action.REJECT, ()),)) == []


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (L7Rule("a", L7Action.LOCATION, (ROOT,), "javascript:alert(1)"), "redirect_url"),
        (L7Rule("a", L7Action.PREFIX, (ROOT,), "https://x y"), "redirect_prefix"),
        (L7Rule("a", L7Action.LOCATION, (ROOT,), "https://x", 200), "redirect_http_code"),
        (L7Rule("a", L7Action.REJECT, (ROOT,) * 51), "up to 50"),
        (L7Rule("a b", L7Action.REJECT, (ROOT,)), "l7policy.id"),
        (L7Rule("a", L7Action.REJECT, (Condition(Subject.HEADER, Match.EQUAL, "x", "it's"),)), "l7rule.key"),
    ],
)
def test_what_can_not_be_said_is_refused_by_name(rule: L7Rule, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        l7_lines((rule,))
