"""Commands of root leave files that the service, another user, can open; a check makes none."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from vrata.cli.cloud_data import database_url
from vrata.cli.main import cli

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="is about files that root makes")
OTHER = 65534


@pytest.fixture(autouse=True)
def mask() -> Iterator[None]:
    previous = os.umask(0o022)
    yield
    os.umask(previous)


def test_directories_above_can_be_passed_by_the_service(tmp_path: Path) -> None:
    database_url(None, None, tmp_path / "lib/vrata/cloud")
    assert [oct((tmp_path / one).stat().st_mode & 0o777) for one in ("lib", "lib/vrata", "lib/vrata/cloud")] == [
        "0o755",
        "0o755",
        "0o700",
    ]


def test_the_database_has_the_owner_of_its_directory(tmp_path: Path) -> None:
    directory = tmp_path / "cloud"
    directory.mkdir()
    os.chown(directory, OTHER, OTHER)
    result = CliRunner().invoke(cli, ["cloud", "migrate", "--data-dir", str(directory)])
    assert result.exit_code == 0, result.output
    found = [path.stat() for path in directory.iterdir()]
    assert {(one.st_uid, one.st_gid, one.st_mode & 0o777) for one in found} == {(OTHER, OTHER, 0o600)}


def test_a_check_makes_neither_directory_nor_database(tmp_path: Path) -> None:
    for directory in (tmp_path / "missing", tmp_path / "empty"):
        (tmp_path / "empty").mkdir(exist_ok=True)
        where = ["--data-dir", str(directory), "--listen", "127.0.0.1:8780"]
        result = CliRunner().invoke(cli, ["cloud", "serve", "--check", *where])
        assert result.exit_code == 0, result.output
    assert not (tmp_path / "missing").exists()
    assert list((tmp_path / "empty").iterdir()) == []
