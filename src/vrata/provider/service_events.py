"""Events on a Service: each problem is reported once, until it is over."""

from collections.abc import Iterable

from vrata.kube.events import About, Recorder
from vrata.kube.objects import EndpointSlice, Service
from vrata.provider.model import Note


class ServiceEvents:
    """Remembers which problems of a Service have been reported."""

    def __init__(self, events: Recorder) -> None:
        self._events = events
        self._begun: dict[str, str] = {}  # key -> uid
        self._reported: dict[str, set[Note]] = {}  # by key

    def begins(self, service: Service) -> None:
        """A pass is about to change something for the first time."""
        key, uid = service.metadata.key, service.metadata.uid
        if self._begun.get(key) != uid:
            self._begun[key] = uid
            self.normal(service, "EnsuringLoadBalancer", "Ensuring load balancer")

    def notes(self, service: Service, notes: Iterable[Note]) -> None:
        """Report what is left out, and forget what is so no longer."""
        current, known = set(notes), self._reported.pop(service.metadata.key, set())
        for note in sorted(current - known, key=lambda one: one.reason):
            self._events.warning(about(service), note.reason, note.message)
        if current:
            self._reported[service.metadata.key] = current

    def normal(self, service: Service, reason: str, message: str) -> None:
        """A step succeeded."""
        self._events.normal(about(service), reason, message)

    def failed(self, service: Service, message: str) -> None:
        """A step failed. Reported at each try, which counts the event up."""
        self._events.warning(about(service), "SyncLoadBalancerFailed", message)

    def empty(self, service: Service) -> None:
        """No endpoint is ready."""
        selector = ",".join(f"{name}={value}" for name, value in service.spec.selector.items())
        message = f"no ready pod has the labels {selector}; check spec.selector and the pods"
        self._events.warning(about(service), "NoReadyEndpoints", message)

    def forget(self, key: str) -> None:
        """The Service is gone."""
        self._reported.pop(key, None)
        self._begun.pop(key, None)


def about(service: Service) -> About:
    """A Service as what an event is about."""
    return About.of("v1", "Service", service.metadata)


def has_endpoints(slices: Iterable[EndpointSlice]) -> bool:
    """Whether any endpoint of a Service is ready."""
    return any(point.conditions.ready is not False for entry in slices for point in entry.endpoints or ())
