"""What `vrata doctor` finds on a machine of a cloud or a host; it changes nothing."""

import asyncio
import contextlib
import errno
import os
import re
import resource
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import click

from vrata.base import clock, pki
from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import configuration
from vrata.cli import doctor_checks as judge
from vrata.cli.doctor_checks import CertificateFile, Check, Listener, Program

PROGRAMS = (
    ("haproxy", "haproxy", ("-v",)), ("keepalived", "keepalived", ("--version",)), ("nft", "nftables", ("--version",)),
    ("ip", "iproute2", ("-V",)), ("conntrack", "conntrack", ("--version",)), ("conntrackd", "conntrackd", ("-v",)),
)  # fmt: skip
_VERSION = re.compile(r"\bv?(\d+\.\d+(?:\.\d+)*)")
ASK_S = 10.0
Values = Mapping[str, Any]


def settings_of(path: Path, root: click.Group) -> tuple[Check, Values]:
    """The configuration file: whether it can be used, and what it says."""
    name = f"configuration {path}"
    try:
        return judge.ok(name, "valid"), configuration.read(path, root)
    except InvalidInput as error:
        return judge.wrong(name, error.remedy, "correct the file; --help of the command explains each option"), {}


def check_programs() -> Iterator[Check]:
    """Of a host: everything that its agent runs."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for name, package, words in PROGRAMS:
        found = shutil.which(name, path=path) or ""
        yield judge.judge_program(Program(name, package, found, _version([found, *words]) if found else ""))


def _version(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ASK_S)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = _VERSION.search(done.stdout + done.stderr)
    return found[1] if found else ""


def check_kernel() -> Iterator[Check]:
    """Modules and limits."""
    loaded = {one.name for one in Path("/sys/module").glob("*")}
    with contextlib.suppress(OSError):
        loaded |= {line.partition(" ")[0] for line in Path("/proc/modules").read_text().splitlines()}
    folder = Path("/lib/modules") / os.uname().release
    available = None
    if folder.is_dir():
        available = set()
        for file in ("modules.dep", "modules.builtin"):
            with contextlib.suppress(OSError):
                lines = (folder / file).read_text().splitlines()
                names = {Path(line.partition(":")[0]).name.partition(".")[0].replace("-", "_") for line in lines}
                available |= names
                loaded |= names if file == "modules.builtin" else set()
    for name in judge.MODULES:
        yield judge.judge_module(name, loaded, available)
    for name in judge.SYSCTLS:
        try:
            value = int(Path("/proc/sys", *name.split(".")).read_text())
        except (OSError, ValueError):
            value = None
        yield judge.judge_sysctl(name, value)
    yield judge.judge_descriptors(resource.getrlimit(resource.RLIMIT_NOFILE)[1])


def check_disk(path: Path) -> Check:
    """Of a directory, or of where it will be made."""
    there = next(one for one in (path, *path.absolute().parents) if one.exists())
    found = shutil.disk_usage(there)
    return judge.judge_disk(str(path), found.free, found.total)


def check_cloud(values: Values, now: datetime) -> Iterator[Check]:
    """Files, ports and database of `vrata cloud serve`, and whether it answers."""
    remedy = "run `vrata cloud init`, or give your own files"
    authority = values.get("host_ca")
    public = str(values.get("public_url") or "")
    wanted = frozenset({urlsplit(public).hostname or ""} - {""})
    url = public or _own_url(values)
    pairs = (("tls_cert", "tls_key", authority, wanted), ("host_ca", "host_ca_key", None, frozenset[str]()))
    for certificate, key, issuer, names in pairs:
        if values.get(certificate):
            found = read_certificate(certificate, Path(values[certificate]), values.get(key), issuer, names)
            yield from judge.judge_certificate(found, now, remedy)
    for option in ("listen", "agent_listen"):
        for address in values.get(option) or ():
            yield judge.judge_listener(find_listener(f"--{option.replace('_', '-')}", address))
    yield from check_database(values)
    if values.get("data_dir"):
        yield check_disk(Path(values["data_dir"]))
    if url:
        yield from asyncio.run(_ask_cloud(url, Path(authority) if authority else None))


def _own_url(values: Values) -> str:
    """Of the first listener, as this machine reaches it; empty: there is none."""
    host, _, port = str(next(iter(values.get("listen") or ()), "")).rpartition(":")
    own = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
    return f"{'https' if values.get('tls_cert') else 'http'}://{own}:{port}" if port not in {"", "0"} else ""


def read_certificate(
    option: str, path: Path, key: str | None, authority: str | None, wanted: frozenset[str]
) -> CertificateFile:
    """A certificate beside its key and its authority."""
    option = f"--{option.replace('_', '-')}"
    try:
        found = path.read_bytes()
        is_pair = key is None or pki.is_pair(pki.Pair(found, Path(key).read_bytes()))
        is_issued = authority is None or pki.is_issued_by(found, Path(authority).read_bytes())
        ends = pki.validity(found)[1]
    except OSError as error:
        return CertificateFile(option, str(path), f"{error.filename}: {error.strerror}")
    except ValueError as error:
        return CertificateFile(
            option, str(path), f"not a certificate with its key, in PEM ({error})".partition("\n")[0]
        )
    return CertificateFile(option, str(path), "", ends, is_pair, is_issued, pki.names_of(found), wanted)


def find_listener(option: str, address: str) -> Listener:
    """Whether the address can be listened on, and else who does."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        socket.create_server((host, int(port)), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        return Listener(option, address, error.strerror or str(error), owner_of(int(port)) if taken else "")
    except (ValueError, OverflowError) as error:
        return Listener(option, address, str(error))
    return Listener(option, address)


def owner_of(port: int) -> str:
    """Command and process that listen on a TCP port; `?` if that cannot be seen from here."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{words[9]}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if any(str(one.readlink()) in inodes for one in (process / "fd").iterdir()):
                words = (process / "cmdline").read_text().split("\0")
                is_vrata = any(Path(word).name == "vrata" or "vrata.cli.main" in word for word in words[:4])
                return f"{'vrata' if is_vrata else Path(words[0]).name} (process {process.name})"
    return "?"


def check_database(values: Values) -> Iterator[Check]:
    """Reachable, and of a version that this program may use."""
    from vrata.cli.cloud_data import require_tls
    from vrata.cloud import migrate, schema

    url = os.environ.get("VRATA_DATABASE") or str(values.get("database") or "")
    try:
        if values.get("database_file"):
            url = Path(values["database_file"]).read_text().strip()
        elif values.get("data_dir") and not url:
            file = Path(values["data_dir"]).absolute() / "cloud.db"
            if not file.exists():
                yield judge.ok(f"database {file}", "none yet; the first start makes it")
                return
            url = f"sqlite:///{file}"
        if not url:
            yield judge.wrong("database", "none is named", "set database-file or data-dir in [cloud]")
            return
        if not values.get("insecure"):
            require_tls(url)
        found = migrate.current(url)
        yield judge.judge_database(migrate.shown(url), found, schema.HEAD, fits=migrate.fits(found, url))
    except OSError as error:
        yield judge.wrong("database", f"{error.filename}: {error.strerror}", "name a file that holds the URL")
    except VrataError as error:
        yield judge.wrong("database", error.message, error.remedy)
    except Exception as error:  # noqa: BLE001 - SQLAlchemy has many for a URL that is none
        yield judge.wrong("database", str(error).partition("\n")[0], "write a SQLAlchemy URL")


def check_host(values: Values, now: datetime) -> Iterator[Check]:
    """Programs, kernel, certificates of a host, and what the cloud says to it."""
    yield from check_programs()
    yield from check_kernel()
    if values.get("state_dir"):
        yield check_disk(Path(values["state_dir"]))
    directory, name = values.get("certificates"), str(values.get("name") or "")
    context: ssl.SSLContext | None = None
    if directory:
        from vrata.host.credentials import JOIN, Certificates

        folder = Path(directory)
        found = read_certificate(
            "certificates", folder / "host.crt", str(folder / "host.key"), str(folder / "ca.crt"), frozenset()
        )
        yield from judge.judge_certificate(found, now, JOIN)
        with contextlib.suppress(VrataError):
            context = Certificates(folder, name).tls
    for url in values.get("urls") or ():
        yield from asyncio.run(_ask_as_host(url, name, context))


async def _ask_as_host(url: str, name: str, context: ssl.SSLContext | None) -> list[Check]:
    """Whether the cloud accepts this host; without a certificate only whether it answers."""
    found = [judge.judge_clock(url, await clock_offset_s(url))]
    if context is None and url.startswith("https:"):
        return [*found, judge.wrong(f"cloud {url}", "this host has nothing to show it", "vrata host join")]
    path = f"{url.rstrip('/')}/agent/v1/hosts/{name}/desired?since=0&wait_s=0"
    try:
        status, text, _ = await _get(path, context)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return [*found, _unreachable(url, error)]
    if status in (200, 204, 304):
        return [*found, judge.ok(f"cloud {url}", f"accepts {name}")]
    said, _, remedy = text.strip().partition("\n")[0].partition("; ")
    return [*found, judge.wrong(f"cloud {url}", f"{status}: {said}", remedy or "see the log of `vrata cloud`")]


async def _ask_cloud(url: str, authority: Path | None) -> list[Check]:
    """Whether the APIs answer under their public address, and with which versions."""
    found = [judge.judge_clock(url, await clock_offset_s(url))]
    context = ssl.create_default_context(cafile=str(authority) if authority and authority.exists() else None)
    versions = []
    for api in ("identity", "network", "load-balancer"):
        try:
            status, text, _ = await _get(f"{url.rstrip('/')}/{api}/", context)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return [*found, _unreachable(url, error)]
        if status not in (200, 300):
            return [*found, judge.wrong(f"cloud {url}", f"/{api}/ answers {status}", "see the log of `vrata cloud`")]
        versions.append(f"{api} {_newest(text)}")
    return [*found, judge.ok(f"cloud {url}", ", ".join(versions))]


def _newest(text: str) -> str:
    return max(re.findall(r'"id": *"(v[\d.]+)"', text), key=judge.version_of, default="without a version")


def _unreachable(url: str, error: Exception) -> Check:
    remedy = "start `vrata cloud`, and look at the address, the firewall and the certificate"
    return judge.wrong(f"cloud {url}", str(error) or type(error).__name__, remedy)


async def clock_offset_s(url: str) -> float | None:
    """Our clock minus that of a server, from its Date header. Nothing is sent, so nothing of its certificate is checked: it may
    be our clock that makes it invalid."""
    unproved = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unproved.check_hostname, unproved.verify_mode = False, ssl.CERT_NONE
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError, TypeError):
        _, _, date = await _get(url, unproved)
        return (clock.now() - parsedate_to_datetime(date)).total_seconds()
    return None


async def _get(url: str, context: ssl.SSLContext | None) -> tuple[int, str, str]:
    """Status, text and Date of an answer."""
    timeout = aiohttp.ClientTimeout(total=ASK_S)
    async with (
        aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(ssl=context or True)) as session,
        session.get(url, allow_redirects=False) as answer,
    ):
        return answer.status, await answer.text(), answer.headers.get("Date", "")
