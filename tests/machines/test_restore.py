"""How long it takes to restore a cloud of 1,000 load balancers, and that none of them is built anew: the figure is printed."""

from pathlib import Path

import pytest
from tests.support.backups import WaryHost, balancer, carried, restored, subnet
from tests.support.cloud import Cloud, postgresql, wait_for

BALANCERS = 1000


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_of_a_thousand_balancers_none_is_rebuilt(tmp_path: Path, kind: str) -> None:
    with postgresql() as cluster:
        (tmp_path / "old").mkdir()
        options = ("--host-timeout-s", "3600")
        cloud = Cloud(tmp_path / "old", cluster("old") if kind == "postgresql" else None, *options)
        cloud.start()
        hosts = [WaryHost(cloud, f"host-{number}") for number in range(4)]
        for host in hosts:
            host.report()
        subnet_id = subnet(cloud)
        for _ in range(BALANCERS):
            balancer(cloud, subnet_id)
        wait_for(lambda: len([host.take() for host in hosts]) and len(carried(hosts)) == 2 * BALANCERS)
        before = carried(hosts)
        with restored(cloud, tmp_path, cluster("new") if kind == "postgresql" else None) as (new, took_s):
            for host in hosts:
                host.cloud = new
                host.take()
                assert host.refusal is None
            rebuilt = sum(before[one] != what for one, what in carried(hosts).items())
            size = (tmp_path / "backup").stat().st_size / 2**20
            print(f"{kind}: {BALANCERS} load balancers restored in {took_s:.1f} s ({size:.1f} MiB), {rebuilt} rebuilt")
            assert carried(hosts) == before
