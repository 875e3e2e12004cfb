"""How long a test that waits for something lets others work before it looks again."""

LONGEST_S = 0.5


def pause_s(look_s: float, least_s: float) -> float:
    """Seconds to pause after a look that took `look_s`: twice that, so that waiting never takes most of a processor."""
    return min(max(2 * look_s, least_s), LONGEST_S)
