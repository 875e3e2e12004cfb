"""Events about refusals say what to do, and what cannot help is not tried."""

import pytest

from vrata.provider.refusals import can_help, remedy


@pytest.mark.parametrize(
    ("status", "said", "word", "again"),
    [
        (403, "Quota has been met for resources: Load Balancer", "quota raised", True),
        (409, "Quota exceeded for resources: ['floatingip'].", "quota raised", True),
        (409, "No more IP addresses available on network 1.", "another subnet", True),
        (400, "No more IP addresses available on network 1.", "another subnet", True),
        (403, "Policy does not allow this request to be performed.", "load-balancer_member", True),
        (401, "The request you have made requires authentication.", "roles", True),
        (400, "Validation failure: flavor_id", "not tried again", False),
        (501, "Provider 'x' does not support a requested action", "not tried again", False),
        (404, "Subnet 1 could not be found.", "tried again", True),
        (500, "Internal error", "tried again", True),
    ],
)
def test_each_refusal_has_its_remedy(status: int, said: str, word: str, again: bool) -> None:
    assert word in remedy(status, said)
    assert can_help(status, said) == again
