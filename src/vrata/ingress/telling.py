"""Says once what is wrong with an Ingress, as an Event on it; again if it was right meanwhile."""

from collections.abc import Iterable, Mapping

from vrata.ingress.model import Problem
from vrata.kube.events import About, Recorder
from vrata.kube.objects import Ingress


class Telling:
    """Problems by where they were found (an Ingress, a host, a backend): each finding replaces the one before."""

    def __init__(self, events: Recorder, ingresses: Mapping[str, Ingress]) -> None:
        self._events = events
        self._ingresses = ingresses
        self._found: dict[str, frozenset[Problem]] = {}

    def found(self, where: str, problems: Iterable[Problem]) -> None:
        """These, and no others, are there now."""
        now, before = frozenset(problems), self._found.pop(where, frozenset())
        if now:
            self._found[where] = now
        for problem in sorted(now - before, key=lambda one: (one.ingress, one.message)):
            ingress = self._ingresses.get(problem.ingress)
            if ingress:
                about = About.of("networking.k8s.io/v1", "Ingress", ingress.metadata)
                self._events.warning(about, problem.reason, problem.message)
