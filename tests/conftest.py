"""Settings of Hypothesis, and how the tests are shared out among workers.

What uses one expensive fixture stays on one worker, the slowest first.
"""

import gc
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import hypothesis
import pytest
from xdist.scheduler import LoadScopeScheduling

# No assertion of a test depends on how fast the machine is; Hypothesis would fail one whose data are slow to make.
hypothesis.settings.register_profile(
    "any_machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any_machine")

# Folders whose tests share a fixture that is expensive to start: a whole sandbox, a pair of balancers.
WHOLE_FOLDERS = ("tests/e2e", "tests/system/balancing")

# Of the groups, those that take longest begin first, so that none is left alone at the end.
SLOWEST_FIRST = (
    "tests/system/failover/test_crash.py",
    "tests/e2e",
    "tests/api/cloud/test_balancing_commands.py[sqlite]",
    "tests/provider/test_services.py",
    "tests/system/balancing",
    "tests/system/ingress/test_crash.py",
    "tests/api/cloud/test_agents.py",
    "tests/api/cloud/test_agents.py[sqlite]",
    "tests/api/cloud/test_agents.py[postgresql]",
    "tests/system/failover/test_rows.py",
    "tests/api/cloud/test_crash.py[postgresql]",
    "tests/hostile/test_odd_input.py[postgresql]",
    "tests/system/sandbox/test_commands.py",
    "tests/system/sandbox/test_outside.py",
    "tests/api/apiserver/test_steps.py",
    "tests/hostile/test_upkeep.py",
    "tests/system/ingress/test_controller.py",
    "tests/hostile/test_lost_state.py",
    "tests/hostile/test_cost_of_a_request.py",
    "tests/system/ingress/test_churn.py",
    "tests/system/ingress/test_hostile.py",
    "tests/system/host/test_balancer_pair.py",
    "tests/system/ingress/test_annotations.py",
    "tests/api/cloud/test_fuzz.py[postgresql]",
    "tests/system/failover/test_handover.py",
    "tests/hostile/test_odd_input.py[sqlite]",
    "tests/api/cloud/test_crash.py[sqlite]",
    "tests/provider/test_model.py",
    "tests/api/cloud/test_fuzz.py[sqlite]",
    "tests/hostile/test_anonymous_load.py",
    "tests/api/cloud/test_commands.py",
    "tests/hostile/test_outage.py",
    "tests/provider/test_replicas.py",
    "tests/system/ingress/test_newer_haproxy.py",
)


def group_of(nodeid: str) -> str:
    """The tests of one group run on one worker, in order."""
    path, _, name = nodeid.partition("::")
    for folder in WHOLE_FOLDERS:
        if PurePath(path).is_relative_to(folder):
            return folder
    database = re.search(r"[\[-](sqlite|postgresql)[-\]]", name)  # the same tests on both: side by side
    return f"{path}[{database[1]}]" if database else path


class GroupScheduling(LoadScopeScheduling):  # type: ignore[misc] # xdist is not typed
    """Hands out one group at a time (pytest-xdist, «Custom schedulers»)."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> GroupScheduling:
    """Called by pytest-xdist."""
    return GroupScheduling(config, log)


def pytest_configure(config: pytest.Config) -> None:
    """A worker's /tmp is its own (tools/isolated): the folder above its temporary files is not there yet."""
    if hasattr(config, "workerinput"):
        Path(config.option.basetemp).parent.mkdir(parents=True, exist_ok=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the groups in order, on every worker the same."""
    if hasattr(config, "workerinput"):
        rank = {name: number for number, name in enumerate(SLOWEST_FIRST)}
        items.sort(key=lambda item: rank.get(group_of(item.nodeid), len(rank)))


def pytest_collection_finish() -> None:
    """What is imported by now stays: `_nothing_is_left_open` need not look at it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    """What a module has left open is an error of that module: Python warns of it when it is collected, on 3.13 of SQLite, too."""
    yield
    gc.collect()
