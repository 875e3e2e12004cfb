"""Says once what is wrong with an Ingress, ConfigMap or Service, as an Event on it; again if it was right meanwhile."""

from collections.abc import Iterable, Mapping

from vrata.ingress.model import CONFIG_MAP, SERVICE, Problem
from vrata.kube.events import About, Recorder
from vrata.kube.objects import ConfigMap, Ingress, Service


class Telling:
    """Problems by where they were found (an Ingress, a host, a backend): each finding replaces the one before."""

    def __init__(
        self,
        events: Recorder,
        ingresses: Mapping[str, Ingress],
        config_maps: Mapping[str, ConfigMap],
        services: Mapping[str, Service],
    ) -> None:
        self._events = events
        self._ingresses = ingresses
        self._config_maps = config_maps
        self._services = services
        self._found: dict[str, frozenset[Problem]] = {}

    def found(self, where: str, problems: Iterable[Problem]) -> None:
        """These, and no others, are there now."""
        now, before = frozenset(problems), self._found.pop(where, frozenset())
        if now:
            self._found[where] = now
        for problem in sorted(now - before, key=lambda one: (one.ingress, one.message)):
            about = self._about(problem.ingress)
            if about:
                self._events.warning(about, problem.reason, problem.message)

    def _about(self, key: str) -> About | None:
        ingress, config_map = self._ingresses.get(key), self._config_maps.get(key.removeprefix(CONFIG_MAP))
        service = self._services.get(key.removeprefix(SERVICE)) if key.startswith(SERVICE) else None
        if service:
            return About.of("v1", "Service", service.metadata)
        if ingress:
            return About.of("networking.k8s.io/v1", "Ingress", ingress.metadata)
        return About.of("v1", "ConfigMap", config_map.metadata) if config_map else None
