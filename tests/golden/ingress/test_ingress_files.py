"""The Ingress controller's configuration and maps: as they were, and as HAProxy reads them."""

import os
from pathlib import Path

import pytest

from vrata.base.errors import VrataError
from vrata.haproxy.process import HaproxyProcess
from vrata.ingress.model import Backend, Routing, Server, Settings
from vrata.ingress.render import render_config, render_map_file, render_maps

FILES = Path(__file__).parent / "files"
DIRECTORY = "/run/vrata-ingress"

WEB = Backend("b-0123456789abcdef", "default/web", "http", (Server("s-10-20-0-2-8080", "10.20.0.2", 8080),))
DUAL = Backend(
    "b-fedcba9876543210",
    "default/dual",
    "80",
    (Server("s-10-20-0-3-80", "10.20.0.3", 80), Server("s-fd00__3-80", "fd00::3", 80)),
)
EMPTY = Backend("b-00000000000000ff", "default/empty", "80")
ROUTINGS = {
    "nothing": (Settings(accept_proxy=False), Routing()),
    "default-only": (Settings(), Routing(default=WEB.name, backends={WEB.name: WEB})),
    "everything": (
        Settings(http_port=80, health_port=81, threads=1, drain_s=25, client_timeout_ms=1_000),
        Routing(
            hosts={name: name for name in ("shop.example", "*.example", "*")},
            exact={"shop.example|/cart": DUAL.name, "*|/a%20b": EMPTY.name},
            prefix={"shop.example|/": WEB.name, "shop.example|/#;{}$()/": DUAL.name, "*.example|/": WEB.name},
            default=EMPTY.name,
            backends={entry.name: entry for entry in (WEB, DUAL, EMPTY)},
        ),
    ),
}


def same_as_before(name: str, text: str) -> None:
    """Compare with the kept file; `VRATA_GOLDEN=write` keeps the new text instead."""
    path = FILES / name
    if os.environ.get("VRATA_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


async def check(directory: Path, text: str, routing: Routing) -> None:
    """Ask HAProxy about a configuration, with its maps in place."""
    for name, rows in render_maps(routing).items():
        (directory / f"{name}.map").write_text(render_map_file(rows))
    await HaproxyProcess(directory).check(text.replace(DIRECTORY, str(directory)))


@pytest.mark.parametrize("name", ROUTINGS)
async def test_haproxy_reads_the_configuration_of(name: str, tmp_path: Path) -> None:
    settings, routing = ROUTINGS[name]
    text = render_config(settings, routing, DIRECTORY)
    same_as_before(f"{name}.cfg", text)
    maps = (f"== {title}\n{render_map_file(rows)}" for title, rows in render_maps(routing).items())
    same_as_before(f"{name}.maps", "".join(maps))
    await check(tmp_path, text, routing)


async def test_haproxy_refuses_two_servers_of_one_name(tmp_path: Path) -> None:
    twice = Backend(WEB.name, WEB.service, WEB.port, (*WEB.servers, Server(WEB.servers[0].name, "10.20.0.9", 1)))
    routing = Routing(default=WEB.name, backends={WEB.name: twice})
    with pytest.raises(VrataError, match=r"HAProxy refuses the configuration.*s-10-20-0-2-8080"):
        await check(tmp_path, render_config(Settings(), routing, DIRECTORY), routing)


async def test_haproxy_refuses_a_configuration_without_its_maps(tmp_path: Path) -> None:
    settings, routing = ROUTINGS["everything"]
    text = render_config(settings, routing, DIRECTORY).replace(DIRECTORY, str(tmp_path))
    with pytest.raises(VrataError, match=r"HAProxy refuses the configuration.*\.map"):
        await HaproxyProcess(tmp_path).check(text)


def test_a_backend_that_no_route_uses_any_more_is_not_in_the_next_file() -> None:
    settings, routing = ROUTINGS["default-only"]
    assert DUAL.name not in render_config(settings, routing, DIRECTORY)
