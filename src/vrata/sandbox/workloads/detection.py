"""Which of Kubernetes' own programs manage the workloads of a cluster already, so that Vrata leaves these to them.

Both programs hold a Lease in kube-system, unless they run without leader election; then the certificate authority that
the controller manager publishes in each namespace shows it. A Lease that has expired counts: a controller manager that
restarts finds its objects untouched. The sandbox's own API server publishes the authority itself, so there only Leases count.
"""

from collections.abc import Callable, Collection
from enum import StrEnum

from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.informer import Informer
from vrata.kube.objects import PartialObject

SYSTEM = "kube-system"
AUTHORITY = "kube-root-ca.crt"
OWN_VERSION = "+vrata"  # how /version of the sandbox's own API server ends


class Program(StrEnum):
    """A program of Kubernetes, by the name of its Lease."""

    CONTROLLER_MANAGER = "kube-controller-manager"
    SCHEDULER = "kube-scheduler"


def plan_left(leases: Collection[str], *, authority: bool, version: str) -> frozenset[Program]:
    """The programs whose work is left to them: from names of Leases, and whether the authority is published."""
    # Whoever runs a controller manager runs a scheduler beside it.
    managed = Program.CONTROLLER_MANAGER in leases or (authority and not version.endswith(OWN_VERSION))
    return frozenset(Program) if managed else frozenset(program for program in Program if program in leases)


class Detection:
    """Looks for the programs, and goes on looking: they may start later than Vrata."""

    def __init__(self, kube: Kube, changed: Callable[[], None]) -> None:
        self._kube, self._changed = kube, changed
        self._version = ""
        self.left: frozenset[Program] = frozenset()
        self._leases = Informer(kube, resources.LEASES, PartialObject, namespace=SYSTEM, metadata_only=True)
        only = f"metadata.name={AUTHORITY}"
        self._authority = Informer(
            kube, resources.CONFIG_MAPS, PartialObject, namespace=SYSTEM, field_selector=only, metadata_only=True
        )
        self.informers = (self._leases, self._authority)
        for informer in self.informers:
            informer.on_change(self._look)

    async def begin(self) -> None:
        """To be awaited when both informers are synced."""
        self._version = await self._kube.server_version()
        self._look(None, None)

    def _look(self, _old: PartialObject | None, _new: PartialObject | None) -> None:
        if not self._version:
            return
        leases = {lease.metadata.name for lease in self._leases.objects.values()}
        left = plan_left(leases, authority=bool(self._authority.objects), version=self._version)
        if left != self.left:
            self.left = left
            self._changed()


async def observe_left(kube: Kube) -> frozenset[Program]:
    """One look at the programs that the cluster has now."""
    leases = await kube.list(resources.LEASES, PartialObject, SYSTEM, metadata_only=True)
    authority = await kube.get(resources.CONFIG_MAPS, PartialObject, AUTHORITY, SYSTEM)
    names = {lease.metadata.name for lease in leases.objects}
    return plan_left(names, authority=authority is not None, version=await kube.server_version())
