"""`vrata cloud backup` and `restore`: a whole cloud in one file."""

from pathlib import Path

import click

from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.cli.cloud_data import (
    DATA_DIR,
    DATABASE,
    DATABASE_FILE,
    FILE,
    SECRET_KEY_FILE,
    database_url,
    existing_url,
    key_file,
)
from vrata.cli.cloud_init import SHARED, own_by_service

DIRECTORY = click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("/etc/vrata"),
    show_default=True,
    help="Of the keys and certificates that `vrata cloud init` has made.",
)
KEYS = "secret.key"


@click.command(epilog="Example: vrata --config /etc/vrata/cloud.toml cloud backup /root/cloud.backup")
@DATABASE
@DATABASE_FILE
@DATA_DIR
@SECRET_KEY_FILE
@DIRECTORY
@click.argument("file", type=FILE)
def backup(
    *, database: str | None, database_file: Path | None, data_dir: Path | None, secret_key_file: Path | None,
    directory: Path, file: Path,
) -> None:  # fmt: skip
    """Write the database, keys and authority into FILE while the cloud runs. FILE opens all of the cloud's secrets."""
    from vrata.cloud import backup as backups

    url = existing_url(database, database_file, data_dir)
    places = {name: directory / name for name in SHARED}
    key = key_file(secret_key_file, data_dir)
    if key is not None:
        places[KEYS] = key
    files = {name: _read(path) for name, path in places.items() if path.exists()}
    counts = backups.write(file, url, files)
    kept = ", ".join(files) or "no files"
    click.echo(f"wrote {file}: {sum(counts.values())} rows of {len(counts)} tables, {kept}")
    if KEYS not in files:
        click.echo("without the keys of --secret-key-file nobody can open the key manager's secrets", err=True)


@click.command(epilog="Example: vrata cloud restore --data-dir /var/lib/vrata/cloud /root/cloud.backup")
@DATABASE
@DATABASE_FILE
@DATA_DIR
@click.option("--secret-key-file", type=FILE, help="Where to put the key manager's keys. Default: in --directory.")
@DIRECTORY
@click.option("--force", is_flag=True, help="Replace a database that is in use, and files that differ.")
@click.argument("file", type=FILE)
def restore(
    *, database: str | None, database_file: Path | None, data_dir: Path | None, secret_key_file: Path | None,
    directory: Path, file: Path, force: bool,
) -> None:  # fmt: skip
    """Fill an empty database, and the directory of keys, from a FILE of `vrata cloud backup`.

    No replica of the cloud may run meanwhile. Hosts keep what they run; one that has seen newer changes than the backup has
    says so, and `vrata hosts adopt` makes it take the restored state.
    """
    from vrata.cloud import backup as backups

    archive = backups.read(file)
    url = database_url(database, database_file, data_dir)
    if not force and backups.in_use(url):
        raise VrataError("the database is in use, and would be replaced", remedy="name an empty one, or give --force")
    places = {name: directory / name for name in archive.files if name in {*SHARED, KEYS}}
    if KEYS in places and secret_key_file is not None:
        places[KEYS] = secret_key_file
    contents = {name: backups.content_of(archive, name) for name in places}
    for name, path in places.items():
        if not force and path.exists() and _read(path) != contents[name]:
            raise VrataError(f"{path} is of another cloud", remedy="remove it, or give --force")
    backups.restore(archive, url)
    for name, path in places.items():
        _make_parent(path)
        write_atomic(path, contents[name], durable=True, mode=0o644 if name.endswith(".crt") else 0o600)
        own_by_service(path)
    for line in backups.lines(archive):
        click.echo(line)
    click.echo(f"restored {', '.join(map(str, places.values())) or 'no files'}")
    click.echo("next: `vrata cloud init` makes what is missing; then start the cloud, and see `vrata hosts`")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VrataError(f"{path}: {error.strerror}", remedy="run this as root") from error


def _make_parent(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VrataError(f"{path.parent}: {error.strerror}", remedy="run this as root") from error
