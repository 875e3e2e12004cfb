"""Types of options: each turns the text of one option into its value, or says what is wrong with it and what to write."""

import ipaddress
import math
import re
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

import click

PORT_MAX = 65535
WORD_MAX = 255


class Checked(click.ParamType[Any]):
    """A type out of a function that raises ValueError for what it does not take. `secret`: the value is not repeated."""

    def __init__(self, name: str, check: Callable[[str], Any], remedy: str, *, secret: bool = False) -> None:
        self.name = name
        self._check, self._remedy, self._secret = check, remedy, secret

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value; a default that is no text, or is empty, is one already."""
        if not isinstance(value, str) or (value == "" and param is not None and param.default == ""):
            return value
        try:
            if "\0" in value:
                raise ValueError
            return self._check(value)
        except ValueError:
            self.fail(f"{'it' if self._secret else repr(value)} is not valid; {self._remedy}", param, ctx)


def matching(name: str, pattern: str, remedy: str) -> Checked:
    """A text that matches a pattern as a whole."""
    compiled = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError
        return text

    return Checked(name, check, remedy)


def seconds(least: float, most: float) -> Checked:
    """A time; nan and inf are none."""

    def check(text: str) -> float:
        number = float(text)
        if not (math.isfinite(number) and least <= number <= most):
            raise ValueError
        return number

    return Checked("seconds", check, f"give seconds from {least:g} to {most:g}")


def several(one: Checked, remedy: str) -> Checked:
    """Values with commas between them, as one text."""

    def check(text: str) -> str:
        return ",".join(str(one._check(part)) for part in text.split(","))

    return Checked(one.name, check, remedy)


def one_of(words: Collection[str]) -> Checked:
    """One of these words."""

    def check(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return Checked("word", check, f"use one of {', '.join(words)}")


def _word(text: str) -> str:
    if not (0 < len(text) <= WORD_MAX and text.isprintable() and text == text.strip()):
        raise ValueError
    return text


_HOST = re.compile(r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?)?", re.ASCII)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not port.isascii() or not port.isdigit() or int(port) > PORT_MAX:
        raise ValueError
    if not _HOST.fullmatch(host):  # empty: every address
        ipaddress.ip_address(host.removeprefix("[").removesuffix("]") if host.startswith("[") else host)
    return text


def _server_name(text: str) -> str:
    if re.fullmatch(r"[0-9.]+", text, re.ASCII) or ":" in text:
        return str(ipaddress.ip_address(text))
    if not text or not _HOST.fullmatch(text):
        raise ValueError
    return text


def _url(text: str) -> str:
    parts = urlsplit(text)
    fits = parts.scheme in {"http", "https"} and parts.hostname and text.isprintable() and " " not in text
    if not fits or parts.username or parts.query or parts.fragment or parts.port == 0:  # a port that is none raises
        raise ValueError
    return text


def _ports(text: str) -> str:
    low, _, high = text.partition("-")
    if not (
        low.isascii() and low.isdigit() and high.isascii() and high.isdigit() and 1 <= int(low) <= int(high) <= PORT_MAX
    ):
        raise ValueError
    return text


def _database(text: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        driver = make_url(text).drivername
    except ArgumentError as error:
        raise ValueError from error
    if driver not in {"sqlite", "postgresql+psycopg"}:
        raise ValueError
    return text


_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}"
NAME = matching("name", _NAME, "use letters, digits and _ . -, at most 63, a letter or digit first")
IMAGE = matching(
    "image",
    r"(?=.{1,512}$)(?:[A-Za-z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@sha256:[0-9a-f]{64})?",
    "write REPOSITORY@sha256:DIGEST, or REPOSITORY:TAG",
)
SANDBOX = matching("name", "[A-Za-z0-9][A-Za-z0-9-]{0,31}", "use 1 to 32 letters, digits and dashes")
NODE = matching("name", r"[A-Za-z0-9][A-Za-z0-9.-]{0,252}", "use the name of a Node: letters, digits, . and -")
KEY = matching("namespace/name", f"{_NAME}/[A-Za-z0-9][A-Za-z0-9_.-]{{0,252}}", "write NAMESPACE/NAME")
WORD = Checked("text", _word, f"give a text of 1 to {WORD_MAX} printable characters")
UUID = matching(
    "uuid", "[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}",
    "give an id such as 5e6dbc7c-f14b-422d-87e4-2a895bf9b170",
)  # fmt: skip
LISTEN = Checked("host:port", _address, "write ADDRESS:PORT, such as 127.0.0.1:8780 or [::1]:8780")
SERVER_NAME = Checked("name", _server_name, "give a DNS name or an IP address, without port")
URL = Checked("url", _url, "write http://HOST:PORT or https://HOST, with a path at most")
IP = Checked("address", lambda text: str(ipaddress.ip_address(text)), "give an IPv4 or IPv6 address")
NETWORK = Checked(
    "network", lambda text: str(ipaddress.ip_network(text)), "write a network such as 10.0.0.0/24, without host bits"
)
NETWORKS = several(
    Checked("network", lambda text: str(ipaddress.ip_network(text.strip(), strict=False)), ""),
    "write networks such as 10.20.0.0/16,fd00::/64",
)
PORT = click.IntRange(1, PORT_MAX)
ANY_PORT = click.IntRange(0, PORT_MAX)  # 0: one that is free
BRIDGE = matching(
    "network=bridge", "[A-Za-z0-9_.-]{1,64}=[A-Za-z0-9_.-]{1,15}", "write NETWORK=BRIDGE, such as tenant=br-tenant"
)
TAINT = matching(
    "key:effect", r"[A-Za-z0-9][\w./=-]*:[A-Za-z]+", "write KEY:EFFECT, such as example.com/gpu:NoSchedule"
)
ACCESS_LOG = matching(
    "target", r"/[\w./-]+|[\w.:\[\]-]+:[0-9]{1,5}", "write ADDRESS:PORT, or the path of a datagram socket"
)
REVISION = matching("revision", "head|base|[0-9]{4}|[+-][0-9]{1,3}", "write head, base, or a revision such as 0009")
PORTS = Checked("low-high", _ports, "write LOW-HIGH, such as 30000-32767")
DESCRIPTOR = click.IntRange(0, 1_048_576)
DATABASE = Checked(
    "url", _database, "write postgresql+psycopg://user@host/name or sqlite:////path/cloud.db", secret=True
)


def quota(names: Collection[str], words: Collection[str]) -> Checked:
    """RESOURCE=N for one of these names, or one of these words."""

    def check(text: str) -> str:
        name, _, number = text.partition("=")
        if text not in words and (name not in names or not -1 <= int(number) < 2**31):
            raise ValueError
        return text

    return Checked(
        "resource=n",
        check,
        f"write one of {', '.join(sorted(names))}, = and a number, -1 for no limit; or {' or '.join(words)}",
    )


def endpoint(kinds: Callable[[], Collection[str]]) -> Checked:
    """TYPE=URL for one of these types of service."""

    def check(text: str) -> str:
        kind, _, url = text.partition("=")
        if kind not in kinds():
            raise ValueError
        _url(url)
        return text

    return Checked(
        "type=url", check, "write a type of service, = and its address, such as load-balancer=http://10.0.0.1:9876"
    )
