"""Whose work the workload controllers leave alone."""

import pytest

from vrata.sandbox.workloads.detection import Program, plan_left

MANAGER, SCHEDULER = Program.CONTROLLER_MANAGER, Program.SCHEDULER
REAL, OWN = "v1.36.3", "v1.37.0+vrata"


@pytest.mark.parametrize(
    ("leases", "authority", "version", "left"),
    [
        ([], False, REAL, set()),  # an API server with nothing beside it
        (["cloud-controller-manager"], False, REAL, set()),
        (["kube-scheduler"], False, REAL, {SCHEDULER}),
        (["kube-controller-manager", "kube-scheduler"], True, REAL, {MANAGER, SCHEDULER}),
        ([], True, REAL, {MANAGER, SCHEDULER}),  # without leader election, as k3s runs them
        ([], True, OWN, set()),  # the sandbox's API server publishes the authority itself
        (["kube-controller-manager"], True, OWN, {MANAGER, SCHEDULER}),
    ],
)
def test_a_program_is_known_by_its_lease_or_by_what_it_publishes(
    leases: list[str], version: str, left: set[Program], *, authority: bool
) -> None:
    assert plan_left(leases, authority=authority, version=version) == left
