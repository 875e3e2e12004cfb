"""`vrata cloud host-token` and `revoke-host`: which machines may be hosts of this cloud."""

from datetime import timedelta
from pathlib import Path

import click

from vrata.base.errors import VrataError
from vrata.cli import types
from vrata.cli.cloud_data import DATA_DIR, DATABASE, DATABASE_FILE, HOST_CA, existing_url, file_content


@click.command(
    "host-token",
    epilog="Example: vrata cloud host-token --database-file /etc/vrata/database-url --host-ca /etc/vrata/pki/ca.crt host-1",
)
@DATABASE
@DATABASE_FILE
@DATA_DIR
@HOST_CA
@click.option("--minutes", type=click.IntRange(1, 7 * 24 * 60), default=60, show_default=True, help="Until it ends.")
@click.argument("name", type=types.NAME)
def host_token(
    *,
    database: str | None,
    database_file: Path | None,
    data_dir: Path | None,
    host_ca: Path | None,
    minutes: int,
    name: str,
) -> None:
    """Print a token with which the host NAME joins, once: `vrata host join` on that machine."""
    from vrata.cloud import host_access
    from vrata.cloud.store import Store

    if host_ca is None:
        raise VrataError("which authority?", remedy="give --host-ca, as for `vrata cloud serve`")
    authority = file_content("--host-ca", host_ca)
    store = Store(existing_url(database, database_file, data_dir))
    try:
        life = timedelta(minutes=minutes)
        token = store.write_now(lambda tx: host_access.new_token(tx, name, authority, life))
    except ValueError as error:
        raise VrataError(f"--host-ca {host_ca}: {error}", remedy="give a certificate in PEM") from error
    finally:
        store.close()
    click.echo(token)


@click.command("revoke-host", epilog="Example: vrata cloud revoke-host --data-dir /var/lib/vrata/cloud host-1")
@DATABASE
@DATABASE_FILE
@DATA_DIR
@click.argument("name", type=types.NAME)
def revoke_host(*, database: str | None, database_file: Path | None, data_dir: Path | None, name: str) -> None:
    """Refuse every certificate that the host NAME has now; it may join again with a new token.

    Its instances continue to serve until the cloud has replaced them: a host that is refused counts as silent.
    """
    from vrata.cloud import host_access
    from vrata.cloud.store import Store

    store = Store(existing_url(database, database_file, data_dir))
    try:
        known = store.write_now(lambda tx: host_access.revoke(tx, name))
    finally:
        store.close()
    click.echo(f"certificates of {name} that were issued until now are refused")
    if not known:
        click.echo(f"no host {name} has ever reported; see `vrata hosts` for their names", err=True)
