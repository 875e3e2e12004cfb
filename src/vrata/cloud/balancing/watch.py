"""Which hosts have fallen silent, as one process sees it. Pure: the caller brings signs of life and its monotonic time.

No clock is compared with another machine's. Signs of life are numbered in the database; how long a number has stayed
the same is measured here, and only while this process looked: time in which it did not run, or could not ask the
database, counts for nothing, so a process that was stopped gives every host its full time again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Watch:
    """Times in seconds; `gap_most_s`: how much of the time between two looks counts."""

    timeout_s: float
    gap_most_s: float
    _silent_s: dict[str, float] = field(default_factory=dict)
    _beats: dict[str, int] = field(default_factory=dict)
    _looked: float | None = None

    def look(self, beats: Mapping[str, int], now: float) -> dict[str, int]:
        """Hosts that have been silent for too long, each with the number that it stopped at."""
        gap = 0.0 if self._looked is None else min(max(0.0, now - self._looked), self.gap_most_s)
        self._looked = now
        before = self._beats
        self._silent_s = {
            host: self._silent_s.get(host, 0.0) + gap if before.get(host) == beat else 0.0
            for host, beat in beats.items()
        }
        self._beats = dict(beats)
        return {host: beats[host] for host, silent_s in self._silent_s.items() if silent_s > self.timeout_s}

    def heard(self, host: str) -> None:
        """This process itself heard from the host."""
        self._silent_s[host] = 0.0
