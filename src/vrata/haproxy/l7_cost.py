"""What the L7 rules of a listener may cost a request, worked out from their kinds alone: pure.

A request may be compared with all of them, and each looks at all values of its header. Costs are microseconds of processor
time for the worst text that HAProxy takes, measured (tests/hostile/test_l7_cost.py); what HAProxy remembers of texts that it
has seen is not counted.
"""

from collections.abc import Iterable

from vrata.haproxy.model import Match, Subject

MOST_VALUES = 16  # of a header that a rule looks at; requests with more are refused
MOST_COOKIES, MOST_SAME_COOKIES = 200, 4  # of all names, and of one that a rule looks at
LONGEST_HOST = 255
# Bytes of a text that a regular expression with look-arounds or long repetitions sees: PCRE2 does not count their steps, and
# they walk through all of it from each position.
LONGEST_MATCHED = 256
MOST_US = 3600
# A regular expression that takes more steps than this does not match (PCRE2, «Setting match resource limits»).
LEAST_STEPS, MOST_STEPS = 250, 5000
_STEP_US = 0.04
_CONTAINS_US = 100

Kind = tuple[Subject, Match]


def cost_us(kinds: Iterable[Kind], steps: int = LEAST_STEPS) -> float:
    """Of all of them together."""
    return sum(_cost_us(subject, match, steps) for subject, match in kinds)


def steps_of(kinds: Iterable[Kind]) -> int:
    """How many steps each regular expression of a listener may take."""
    every = list(kinds)
    fixed = cost_us(every, 0)
    each = cost_us(every, 1) - fixed
    return max(LEAST_STEPS, min(MOST_STEPS, int((MOST_US - fixed) / each))) if each else MOST_STEPS


def _cost_us(subject: Subject, match: Match, steps: int) -> float:
    values = {Subject.HEADER: MOST_VALUES, Subject.COOKIE: MOST_SAME_COOKIES}.get(subject, 1)
    if match is Match.REGEX:
        return values * (0.2 + steps * _STEP_US)
    if match is Match.CONTAINS and subject is not Subject.HOST:
        return _CONTAINS_US
    return 3 if values > 1 or subject is Subject.HOST else 1
