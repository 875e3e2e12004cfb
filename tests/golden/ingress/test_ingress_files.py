"""The Ingress controller's configuration and maps: as they were, and as HAProxy reads them."""

import contextlib
import os
import random
import ssl
from pathlib import Path

import pytest
from tests.support.haproxy import BINARIES, SYSTEM, present
from tests.support.pki import issue

from vrata.base.errors import VrataError
from vrata.haproxy.certificates import self_signed
from vrata.haproxy.model import FileKind, TlsFile
from vrata.haproxy.process import HaproxyProcess
from vrata.ingress.annotations.grammar import ciphers, regex
from vrata.ingress.folds import program
from vrata.ingress.model import Place, Scheme, Server, ServerTls, Settings, Slot
from vrata.ingress.render import (
    AUTHORITIES,
    FORBIDDEN,
    OWNERS,
    POLICIES,
    PROGRAM,
    PROXIES,
    THROUGH,
    USERS,
    map_path,
    patterns_map,
    render_config,
    render_map_file,
    routes_of,
)
from vrata.ingress.rows import END, listed_patterns, pattern_of
from vrata.ingress.served import DEFAULT, LIST
from vrata.net.command import run

FILES = Path(__file__).parent / "files"
DIRECTORY = "/run/vrata-ingress"

POD = Server("s-10-20-0-2-8080", "10.20.0.2", 8080)
TRUSTED = ServerTls("ca-0123456789abcdef.pem", "peer-0123456789abcdef.pem", "pods.example", sends_name=True)
OLDER = ServerTls(versions=("TLSv1", "TLSv1.2"), ciphers="HIGH:!aNULL:ECDHE-RSA-AES256-GCM-SHA384")
DUAL = (
    Server("s-10-20-0-5-80-tls", "10.20.0.5", 80, tls=OLDER),
    Server("s-10-20-0-3-80-tls", "10.20.0.3", 80, tls=ServerTls()),
    Server("s-10-20-0-4-80-tls", "10.20.0.4", 80, tls=TRUSTED),
    Server("s-fd00__3-80-h2", "fd00::3", 80, h2=True),
)
ONE, TWO, COOKIE = Slot("b-000000"), Slot("b-000001"), Slot("c-000000")
SPARES: dict[str, tuple[Slot, ...]] = {
    "one-spare": (Slot("h-000002"),),
    "everything": (Slot("b-000002"), Slot("h-000000"), Slot("c-000001"), Slot("t-000000")),
}
CONFIGURATIONS: dict[str, tuple[Settings, dict[Slot, tuple[Server, ...]]]] = {
    "nothing": (Settings(accept_proxy=False), {}),
    "one-spare": (Settings(), {ONE: (POD,)}),
    "passthrough": (Settings(ssl_passthrough=True), {ONE: (POD,)}),
    "replicas": (Settings(replica="10.20.0.6", host_metrics=1000), {ONE: (POD,)}),
    "everything": (
        Settings(http_port=80, health_port=81, threads=1, drain_s=25, client_timeout_ms=1_000),
        {ONE: (POD,), TWO: DUAL, COOKIE: (POD,)},
    ),
}
REPLICAS = {"replicas": ("10.20.0.8", "10.20.0.7")}
OWNERS_ROWS: dict[str, str] = {ONE: "default/web:http", TWO: "default/dual:80"}
ROUTES: dict[str, str] = {
    f"shop.example/cart/{END}": TWO,
    "shop.example/": ONE,
    "shop.example/#;{}$()/": TWO,
    "*.example/": ONE,
}
PATTERNS = dict(listed_patterns("shop.example", [(r"(?i)^shop\.example/api(/|$)(.*)", Place(f"{ONE}/p-1/new/\\2"))]))


def same_as_before(name: str, text: str) -> None:
    """Compare with the kept file; `VRATA_GOLDEN=write` keeps the new text instead."""
    path = FILES / name
    if os.environ.get("VRATA_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


async def check(directory: Path, text: str, binary: str = SYSTEM) -> None:
    """Ask HAProxy about a configuration, with its maps in place."""
    schemes = ((routes_of, ROUTES), (patterns_map, PATTERNS))
    maps = [(name(scheme), rows) for name, rows in schemes for scheme in Scheme]
    for name, rows in (
        (OWNERS, OWNERS_ROWS),
        (POLICIES, {"p-1": "allow=10.0.0.0/8"}),
        (USERS, {"default/users;users": "1f"}),
        (PROXIES, {"10.10.0.0/24": "balancer", "10.10.0.20/32": "other", "fd00::/64": "balancer"}),
        (FORBIDDEN, {"10.96.0.1": "forbidden", "fd00::1": "forbidden"}),
        (THROUGH, {"pods.example": "t-000000"}),
        (AUTHORITIES, {"shop.example": "0123456789abcdef"}),
        *maps,
    ):
        Path(map_path(str(directory), name)).write_text(render_map_file(rows.items()))
    (directory / PROGRAM).write_text(program())
    haproxy = HaproxyProcess(directory, binary=present(binary))
    files = [
        TlsFile(DEFAULT, FileKind.CERTIFICATE, "default", self_signed("nobody")),
        TlsFile(TRUSTED.certificate, FileKind.CERTIFICATE, "shown to pods", self_signed("us")),
        TlsFile(TRUSTED.authority, FileKind.AUTHORITY, "of pods", issue("authority", authority=True).cert_pem),
        TlsFile(LIST, FileKind.LIST, "list", f"{haproxy.tls_dir}/{DEFAULT}\n"),
    ]
    await haproxy.check(text.replace(DIRECTORY, str(directory)), files)


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.parametrize("binary", list(BINARIES.values()), ids=list(BINARIES))
async def test_haproxy_reads_the_configuration_of(name: str, binary: str, tmp_path: Path) -> None:
    settings, slots = CONFIGURATIONS[name]
    text = render_config(settings, slots, SPARES.get(name, ()), DIRECTORY, replicas=REPLICAS.get(name, ()))
    same_as_before(f"{name}.cfg", text)
    await check(tmp_path, text, binary)


def test_a_map_is_one_key_and_one_value_a_line() -> None:
    same_as_before("routes.map", render_map_file(ROUTES.items()))


async def test_haproxy_refuses_two_servers_of_one_name(tmp_path: Path) -> None:
    twice = render_config(Settings(), {ONE: (POD, Server(POD.name, "10.20.0.9", 1))}, (), DIRECTORY)
    with pytest.raises(VrataError, match=r"HAProxy refuses the configuration.*s-10-20-0-2-8080"):
        await check(tmp_path, twice)


async def test_haproxy_refuses_a_configuration_without_its_maps(tmp_path: Path) -> None:
    settings, slots = CONFIGURATIONS["everything"]
    text = render_config(settings, slots, (), DIRECTORY).replace(DIRECTORY, str(tmp_path))
    with pytest.raises(VrataError, match=r"HAProxy refuses the configuration.*\.map"):
        await HaproxyProcess(tmp_path).check(text)


PIECES = [
    "a",
    "/",
    r"\.",
    r"\d",
    r"\w+",
    "[a-z]",
    "[^/]*",
    "[0-9]{2,3}",
    "(",
    ")",
    ")?",
    "|",
    "^",
    "$",
    ".",
    "?",
    "*",
    "+",
]
PIECES += [
    "{3}",
    "{999}",
    "{",
    "}",
    "[",
    "]",
    "[:alpha:]",
    "[[:foo:]]",
    "(?:",
    "(?=",
    "(*UTF8)",
    r"\1",
    r"\Q",
    r"\K",
    r"\p{L}",
]
PIECES += [
    "%[",
    "#",
    "&&",
    "-",
    "~",
    r"\-",
    "[]a]",
    "[^]",
    "[a-",
    r"[\d-z]",
    "{,3}",
    "{70000}",
    "**",
    "*+",
    "+?",
    "\\",
    "é",
]


async def test_haproxy_takes_every_pattern_that_the_grammar_takes(tmp_path: Path) -> None:
    """One that it refused would keep it from starting, for everybody."""
    chance = random.Random(1)
    taken: set[str] = set()
    while len(taken) < 3000:
        text = "/" + "".join(chance.choices(PIECES, k=chance.randint(1, 8)))
        with contextlib.suppress(ValueError):
            taken.add(regex(text))
    (tmp_path / "patterns.map").write_text(
        render_map_file((pattern_of("h.example", text), "x") for text in sorted(taken))
    )
    config = tmp_path / "haproxy.cfg"
    lookup = f"http-request set-var(txn.x) base,map_regm({tmp_path}/patterns.map)"
    config.write_text(f"defaults\n  mode http\n  timeout client 1s\nfrontend f\n  bind 127.0.0.1:1\n  {lookup}\n")
    await run("haproxy", "-c", "-f", str(config))


def test_no_pod_chooses_the_group_of_a_key_exchange() -> None:
    """A group of 9,999 bits is 0.7 s of a thread that all hosts share (TLS 1.2; in TLS 1.3 groups are few and have names)."""
    (line,) = [
        line for line in (FILES / "nothing.cfg").read_text().splitlines() if "ssl-default-server-ciphers" in line
    ]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_ciphers(line.split()[1])
    assert {one["kea"] for one in context.get_ciphers()} >= {"kx-ecdhe"}
    assert "kx-dhe" not in {one["kea"] for one in context.get_ciphers()}
    assert ciphers("DHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")
    with pytest.raises(ValueError, match="at least one cipher"):
        ciphers("DHE-RSA-AES128-GCM-SHA256")
