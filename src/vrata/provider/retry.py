"""Which calls are sent again, and when: pure decisions about an answer or the lack of one (RFC 9110, 9.2.2 and 10.2.3)."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

ATTEMPTS_MAX = 4
WAIT_MAX_S = 30.0  # longer than that is for the caller, who has other work
WAIT_UNTOLD_S = 1.0  # doubled each time, where the cloud refuses for its load and does not say until when
JITTER = 0.25
IDEMPOTENT = frozenset({"GET", "PUT", "DELETE"})
BUSY = frozenset({429, 503})


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds that a Retry-After header asks for; None if there is none or it is neither seconds nor a date."""
    if not header:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def wait_before_retry_s(status: int, asked_s: float | None, attempt: int, chance: float) -> float | None:
    """Seconds until the call may be sent again after a refusal, None if it may not.

    `attempt` counts from 1, `chance` is random in [0, 1). A 503 without Retry-After may have had an effect and is
    no promise of a better time: the caller's own backoff is for it.
    """
    if status not in BUSY or attempt >= ATTEMPTS_MAX or (status == 503 and asked_s is None):
        return None
    wait_s = WAIT_UNTOLD_S * 2 ** (attempt - 1) if asked_s is None else asked_s
    return None if wait_s > WAIT_MAX_S else wait_s * (1 + JITTER * chance)


def may_send_again(method: str, *, connected: bool, attempt: int) -> bool:
    """Whether to send once more what got no answer: always if it never left, else only what can be said twice."""
    return attempt == 1 and (not connected or method in IDEMPOTENT)
