"""Which of several content types an Accept header asks for (RFC 9110, section 12.5.1). Pure."""

from collections.abc import Sequence

JSON = "application/json"


def _ranges(header: str) -> list[tuple[str, float]]:
    """Media ranges with their weights. Parameters other than `q` are of no account: no type here has any but a charset."""
    found = []
    for part in header.split(","):
        kind, *parameters = (one.strip().lower() for one in part.split(";"))
        if kind:
            found.append((kind, _weight(parameters)))
    return found


def _weight(parameters: Sequence[str]) -> float:
    for one in parameters:
        name, _, value = one.partition("=")
        if name.strip() == "q":
            try:
                return min(1.0, max(0.0, float(value)))
            except ValueError:
                return 0.0
    return 1.0


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The weight of the most specific range that the type matches; 0 if none does."""
    for wanted in (offer, f"{offer.partition('/')[0]}/*", "*/*"):
        weights = [weight for kind, weight in ranges if kind == wanted]
        if weights:
            return max(weights)
    return 0.0


def choose(header: str, offers: Sequence[str]) -> str | None:
    """The offer that the header likes best, the first of several equals; None if it takes none. No header takes all."""
    ranges = _ranges(header) or [("*/*", 1.0)]
    best = max(offers, key=lambda offer: _quality(offer, ranges))
    return best if _quality(best, ranges) > 0 else None
