"""Several candidates for one Lease against a real API server: never two at work, always one after another."""

import asyncio
import random

import pytest
from tests.support.kubernetes import Cluster

from vrata.kube import config
from vrata.kube.client import Kube
from vrata.kube.lease import Leadership, LeaseLost, LeaseObject, Times
from vrata.kube.resources import LEASES


class Work:
    """Notes who works; fails if two do."""

    def __init__(self) -> None:
        self.now: str | None = None
        self.terms: list[str] = []

    async def of(self, name: str) -> None:
        assert self.now is None, f"{name} began while {self.now} was at work"
        self.now = name
        self.terms.append(name)
        try:
            await asyncio.sleep(3600)
        finally:
            self.now = None


async def until(condition: object) -> None:
    assert callable(condition)
    async with asyncio.timeout(90):
        while not condition():
            await asyncio.sleep(0.01)


async def test_leaders_end_one_after_another_and_never_two_work(cluster: Cluster, namespace: str) -> None:
    work = Work()
    async with Kube(config.load(cluster.kubeconfig)) as kube:

        async def candidate(name: str) -> None:
            await Leadership(kube, namespace, "turns", name, Times(2)).run(lambda: work.of(name))

        tasks = {name: asyncio.ensure_future(candidate(name)) for name in "abcde"}
        while tasks:
            await until(lambda: work.now is not None)
            assert work.now is not None
            leader = tasks.pop(work.now)
            await asyncio.sleep(random.uniform(0, 0.5))
            leader.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leader
        lease = await kube.get(LEASES, LeaseObject, "turns", namespace)

    assert sorted(work.terms) == list("abcde")
    assert lease is not None
    assert not lease.spec.holder_identity, "the last one gave it back"
    assert lease.spec.lease_transitions == 4


async def test_a_lease_taken_by_force_ends_the_work_at_once(cluster: Cluster, namespace: str) -> None:
    work = Work()
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        leadership = Leadership(kube, namespace, "mine", "a", Times(3))
        running = asyncio.ensure_future(leadership.run(lambda: work.of("a")))
        await until(lambda: work.now == "a")
        assert leadership.is_held()
        await kube.patch(LEASES, "mine", {"spec": {"holderIdentity": "b", "leaseDurationSeconds": 60}}, namespace)
        with pytest.raises(LeaseLost, match="b has it"):
            await running

        assert work.now is None
        assert not leadership.is_held()
        lease = await kube.get(LEASES, LeaseObject, "mine", namespace)
        assert lease is not None
        assert lease.spec.holder_identity == "b", "what is another's is not given back"


async def test_an_api_server_that_goes_ends_the_work_in_time(cluster: Cluster, namespace: str) -> None:
    work = Work()
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        leadership = Leadership(kube, namespace, "cut", "a", Times(2))
        running = asyncio.ensure_future(leadership.run(lambda: work.of("a")))
        await until(lambda: work.now == "a")
        kube.config.__dict__["server"] = "https://127.0.0.1:1"  # nobody listens there
        with pytest.raises(LeaseLost, match="not renewed in time"):
            await running

        assert work.now is None


async def test_what_the_work_raises_comes_through(cluster: Cluster, namespace: str) -> None:
    async def fail() -> None:
        raise ValueError("broken")

    async with Kube(config.load(cluster.kubeconfig)) as kube:
        with pytest.raises(ValueError, match="broken"):
            await Leadership(kube, namespace, "fails", "a").run(fail)
