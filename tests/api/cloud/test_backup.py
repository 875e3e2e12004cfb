"""`vrata cloud backup` and `restore`: between both databases, with hosts that keep what they carry, and wrong input."""

import json
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.backups import HOSTS, LBAAS, WaryHost, ask, balancer, carried, restored, subnet, vrata
from tests.support.cloud import Cloud, Postgresql, postgresql, wait_for

from vrata.cloud import backup as backups
from vrata.cloud import migrate


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgresql]:
    with postgresql() as running:
        yield running


def served(directory: Path, database: str | None) -> tuple[Cloud, list[WaryHost], list[str]]:
    """A cloud with three load balancers on two hosts."""
    directory.mkdir()
    cloud = Cloud(directory, database, "--host-timeout-s", "60")
    cloud.start()
    hosts = [WaryHost(cloud, name) for name in ("host-a", "host-b")]
    for host in hosts:
        host.report()
    subnet_id = subnet(cloud)
    made = [balancer(cloud, subnet_id) for _ in range(3)]
    wait_for(lambda: all(host.carries(one) for host in hosts for one in made))
    return cloud, hosts, made


@pytest.mark.parametrize(("source", "target"), [("sqlite", "postgresql"), ("postgresql", "sqlite")])
def test_hosts_keep_what_they_carry_and_nothing_is_rebuilt(
    tmp_path: Path, cluster: Postgresql, source: str, target: str
) -> None:
    names = f"{source[0]}_{target[0]}"
    database = cluster(f"from_{names}") if source == "postgresql" else None
    cloud, hosts, made = served(tmp_path / "old", database)
    before = carried(hosts)
    shown = [ask(cloud, "GET", f"{LBAAS}/loadbalancers/{one}/status")[1] for one in made]
    with restored(cloud, tmp_path, cluster(f"to_{names}") if target == "postgresql" else None) as (new, _took_s):
        for host in hosts:
            host.cloud = new
            host.take()
            assert host.refusal is None
        assert carried(hosts) == before
        assert [ask(new, "GET", f"{LBAAS}/loadbalancers/{one}/status")[1] for one in made] == shown
        fourth = balancer(new, ask(new, "GET", f"{LBAAS}/loadbalancers/{made[0]}")[1]["loadbalancer"]["vip_subnet_id"])
        wait_for(lambda: all(host.carries(fourth) for host in hosts))
        assert carried(hosts).items() > before.items()


def test_hosts_that_have_seen_newer_changes_refuse_until_they_are_told_to_adopt(tmp_path: Path) -> None:
    cloud, hosts, made = served(tmp_path / "old", None)
    with restored(cloud, tmp_path, None) as (new, _took_s):
        for host in hosts:
            host.desired["revision"] += 5
            host.cloud = new
            host.take()
            assert host.refusal is not None
            assert all(host.instances(one) for one in made)
            assert ask(new, "PUT", f"{HOSTS}/{host.name}", {"host": {"adopt": True}})[0] == 200
            wait_for(host.accepts)
            assert all(host.instances(one) for one in made)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `data`, a database that was served from, and `backup`."""
    directory = tmp_path_factory.mktemp("written")
    cloud = Cloud(directory, None)
    cloud.start()
    status, said = vrata("cloud", "backup", "--data-dir", directory, "--secret-key-file", directory / "keys",
                         "--directory", directory / "etc", directory / "backup")  # fmt: skip
    assert status == 0, said
    cloud.stop()
    return directory


def restore(written: Path, directory: Path, *more: object, file: Path | None = None) -> tuple[int, str]:
    where = ("--data-dir", directory / "data", "--directory", directory / "etc")
    return vrata("cloud", "restore", *where, *more, file or written / "backup")


def test_what_is_in_use_is_replaced_only_by_force(written: Path, tmp_path: Path) -> None:
    assert restore(written, tmp_path)[0] == 0
    status, said = restore(written, tmp_path)
    assert (status, "the database is in use" in said) == (1, True), said
    assert restore(written, tmp_path, "--force")[0] == 0
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "etc/secret.key").write_text("another\n")
    status, said = restore(written, tmp_path)
    assert (status, "secret.key is of another cloud" in said) == (1, True), said
    assert not backups.in_use(f"sqlite:///{tmp_path}/data/cloud.db")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: content[: len(content) // 2], "incomplete"),
        (lambda content: content.replace(b"Default", b"defaulT"), "is damaged"),
        (lambda _content: b"", "not a backup"),
    ],
)
def test_a_file_that_is_not_whole_changes_nothing(written: Path, tmp_path: Path, spoil: object, said: str) -> None:
    assert callable(spoil)
    spoilt = spoil((written / "backup").read_bytes())
    (tmp_path / "cloud.backup").write_bytes(spoilt)
    status, printed = restore(written, tmp_path, file=tmp_path / "cloud.backup")
    assert (status, said in printed, printed.count("\n")) == (1, True, 1), printed
    assert not (tmp_path / "data/cloud.db").exists()
    assert not (tmp_path / "etc").exists()


def test_a_backup_of_a_newer_version_is_refused_with_its_name(written: Path, tmp_path: Path) -> None:
    with tarfile.open(written / "backup") as old, tarfile.open(tmp_path / "newer", "w") as new:
        for entry in old:
            content = old.extractfile(entry)
            assert content is not None
            data = content.read()
            if entry.name == backups.MANIFEST:
                data = json.dumps(json.loads(data) | {"schema": "9999", "vrata": "7.0.0"}).encode()
            entry.size = len(data)
            (tmp_path / "part").write_bytes(data)
            with (tmp_path / "part").open("rb") as stream:
                new.addfile(entry, stream)
    status, printed = restore(written, tmp_path, file=tmp_path / "newer")
    assert (status, "install vrata 7.0.0" in printed) == (1, True), printed


def test_a_backup_of_an_older_schema_is_migrated(tmp_path: Path) -> None:
    old = f"sqlite:///{tmp_path}/old.db"
    migrate.migrate(old, "0012")
    with sqlite3.connect(tmp_path / "old.db") as connection:
        connection.execute("INSERT INTO heartbeats (host, beat, at) VALUES ('a', 7, 1.5)")
    connection.close()
    backups.write(tmp_path / "backup", old, {})
    new = f"sqlite:///{tmp_path}/new.db"
    backups.restore(backups.read(tmp_path / "backup"), new)
    assert migrate.difference(new) == []
    with sqlite3.connect(tmp_path / "new.db") as connection:
        assert connection.execute("SELECT host, beat, at FROM heartbeats").fetchall() == [("a", 7, 1.5)]
    connection.close()


def test_every_kind_of_value_comes_back_as_it_was(written: Path, tmp_path: Path) -> None:
    """A second backup of what was restored has the same rows."""
    assert restore(written, tmp_path)[0] == 0
    backups.write(tmp_path / "again", f"sqlite:///{tmp_path}/data/cloud.db", {})
    assert tables(tmp_path / "again") == tables(written / "backup")


def tables(path: Path) -> dict[str, list[bytes]]:
    with tarfile.open(path) as archive:
        streams = {entry.name: archive.extractfile(entry) for entry in archive if entry.name.startswith("tables/")}
        return {name: sorted(stream.read().splitlines()) for name, stream in streams.items() if stream is not None}
