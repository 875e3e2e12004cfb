"""A host is drained when nothing serves on it any more, not already when others have taken its place."""

from pathlib import Path

from tests.support.backups import HOSTS, WaryHost, ask, balancer, subnet
from tests.support.cloud import Cloud, wait_for


def test_a_host_that_still_ends_connections_is_still_draining(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, None, "--host-timeout-s", "3600")
    cloud.start()
    hosts = [WaryHost(cloud, name) for name in ("host-a", "host-b", "host-c")]
    for host in hosts:
        host.report()
    made = balancer(cloud, subnet(cloud))
    wait_for(lambda: sum(host.carries(made) for host in hosts) == 2)
    active = cloud.masters[made]
    drained = next(host for host in hosts if host.instances(made) and host.instances(made)[0]["id"] != active)
    others = [host for host in hosts if host is not drained]
    drained.applying = False  # it reports what it had, as an agent does until the last connection has ended

    def moving() -> int:
        for host in hosts:
            host.take()
        return int(ask(cloud, "GET", f"{HOSTS}/{drained.name}")[1]["host"]["moving"])

    assert ask(cloud, "PUT", f"{HOSTS}/{drained.name}", {"host": {"drained": True}})[0] == 200
    wait_for(lambda: moving() and not drained.instances(made) and all(host.instances(made) for host in others))
    assert moving() == 1
    drained.applying = True
    wait_for(lambda: moving() == 0)
    cloud.stop()
