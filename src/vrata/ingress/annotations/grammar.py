"""Grammars of annotation values: each takes the text and returns a value, or raises ValueError with the remedy.

They take what ingress-nginx takes, in its spellings (`vrata.ingress.annotations.source`): booleans and numbers as Go reads
them, blanks and line breaks around items of a list, names of hosts in any case.

What comes out is a number, a member of a closed set, an address, or text of printable ASCII without quotes,
backslash, braces, `%[`, newline or NUL; brackets and apostrophes only in the address of a redirect. Only `regex` and
`rewrite_path` allow more, and say what.
"""

import ipaddress
import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

Parser = Callable[[str], object]
T = TypeVar("T")
MAX_TEXT = 2048
MAX_REGEX = 512
MAX_TIME_MS = 24 * 86_400_000  # HAProxy's own bound is 2**31

_TOKEN = re.compile(r"[A-Za-z0-9!#$&*+.^_|~-]{1,128}", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
# A pod chooses the group of such a key exchange, up to 10,000 bits: one handshake would take a second of everybody's proxy.
NO_DHE = "!kDHE:!kDHEPSK"
_CIPHERS = re.compile(r"[A-Za-z0-9!+:_-]{1,512}", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_NAME = rf"{_LABEL}(?:\.{_LABEL})*"
_HOST = re.compile(rf"(?:\*\.)?{_NAME}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9/._~!$&()*+,;=:@%?#-]*", re.ASCII)
# Hosts of addresses may have `_`: browsers, and nginx, take them.
_LABELS = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*"
_PORT = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5]))))"
_AUTHORITY = rf"{_LABELS}(?::{_PORT})?"
_WITH_PORT = re.compile(_AUTHORITY, re.ASCII)
_BEGINNING = re.compile(
    r"\A([a-z]+://|\$scheme://)((?:(?!\$(?:request_)?uri)[^/?#])*)([?#])?", re.ASCII | re.IGNORECASE
)
_ORIGIN = re.compile(r"(?:[a-z]{1,32}://)?(?:\*\.)?[a-z0-9.-]{0,253}(?::[0-9]{1,19})?", re.ASCII)
_URL = re.compile(rf"https?://({_AUTHORITY})(?:\$request_uri|/[A-Za-z0-9/._~!&()*+,;=:@%?#$-]*)?", re.ASCII)
_OF_LOCATION = r"[A-Za-z0-9/._~!&'()*+,;=:@%?#$|\[\]-]*"
_LOCATION = re.compile(
    rf"(?:https?|\$scheme)://(?:{_LABELS}\.?|\[(?P<address>[0-9a-f:.]{{2,45}})\])(?::{_PORT})?"
    rf"(?:(?:\$(?:request_)?uri|/){_OF_LOCATION})?",
    re.ASCII,
)
_LOCATION_PATH = re.compile(rf"/{_OF_LOCATION}", re.ASCII)
_COOKIE_PATH = re.compile(r"/[A-Za-z0-9/._~!$&()*+,=:@%?#-]*", re.ASCII)
_TEMPLATE = re.compile(r"[A-Za-z0-9/._~!&()*+,;=:@%?#$|-]{1,2048}", re.ASCII)
_WRONG_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_VARIABLE_HOST = re.compile(r"https?://[^/]*\$(?!request_uri)", re.ASCII)
_OBJECT = re.compile(rf"(?:{_LABEL}/)?{_NAME}", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9 !#$&()*+,./:;<=>?@^_|~-]{1,256}", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,1000}) *([bkmg]?)", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"[+]?([0-9]{1,19})(ms|s|m|h)?", re.ASCII)
MOST_BYTES = 2**53  # Lua counts them without a loss
_ESCAPE = r"\\[wdsWDSbB]|\\[^A-Za-z0-9\s]"
_ATOM = rf"(?:{_ESCAPE}|\[\^?(?:{_ESCAPE}|[^\\\[\]])+\]|[^\\\[\](){{}}*+?|^$])"
_TIMES = r"(?:[*+?]\??|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})"
_REGEX = re.compile(rf"(?:{_ATOM}{_TIMES}?|\)\??|[|^$(])+", re.ASCII)
_REGEX_TEXT = re.compile(r"[!#-&(-_a-~]+", re.ASCII)  # printable, no blank and no quote or backtick
_TOKEN_OF_REGEX = re.compile(rf"(?P<atom>{_ATOM})(?P<times>{_TIMES})?|(?P<rest>[|^$()]\??)", re.ASCII)
MOST_GROUPS = 20
LONGEST_MATCHED = 1024  # characters of what a regular expression is tried on
MOST_STEPS = 2 * LONGEST_MATCHED**2  # about a millisecond
_VARIABLE = re.compile(r"\$([A-Za-z0-9_]*)", re.ASCII)
VARIABLES = ("host", "scheme", "request_uri", "escaped_request_uri", "uri", "args")


@dataclass(frozen=True)
class Nearest(Generic[T]):
    """What counts instead of a value that is out of bounds, and the words for it."""

    value: T
    said: str


@dataclass(frozen=True)
class Grammar(Generic[T]):
    """Reads a value; `said` is what it takes, in words."""

    parse: Callable[[str], T]
    said: str

    def __call__(self, text: str) -> T:
        return self.parse(text)


def takes(said: str) -> Callable[[Callable[[str], T]], Grammar[T]]:
    """Makes a grammar of a function."""
    return lambda parse: Grammar(parse, said)


def said(parser: Parser) -> str:
    """What it takes, in words."""
    return parser.said if isinstance(parser, Grammar) else ""


_TRUE = {"1", "t", "T", "TRUE", "true", "True"}
_FALSE = {"0", "f", "F", "FALSE", "false", "False"}


@takes("true or false, also 1, t, True, TRUE and their opposites")
def boolean(text: str) -> bool:
    if text not in _TRUE | _FALSE:
        raise ValueError('write "true" or "false"')
    return text in _TRUE


def choice(*words: str, fold: bool = False) -> Grammar[str]:
    """One word of a closed set, returned as spelled here; `fold` takes any case."""

    @takes(f"{', '.join(words)}{', in any case' if fold else ''}")
    def parse(text: str) -> str:
        for word in words:
            if text == word or (fold and text.isascii() and text.lower() == word.lower()):
                return word
        raise ValueError(f"write one of {', '.join(words)}")

    return parse


def number(least: int, most: int) -> Grammar[int]:
    @takes(f"a whole number from {least:,} to {most:,}")
    def parse(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,12}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return parse


def within(least: int, most: int) -> Grammar[int | Nearest[int]]:
    """A whole number as Go reads it; one that is out of bounds counts as the nearest one."""

    @takes(f"a whole number; below {least:,} and above {most:,} the bound counts")
    def parse(text: str) -> int | Nearest[int]:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text, re.ASCII):
            raise ValueError(f"write a whole number from {least} to {most}")
        found = min(max(int(text), least), most)
        return found if found == int(text) else Nearest(found, f"is out of bounds, {found} counts")

    return parse


def numbers(*allowed: int) -> Grammar[int]:
    one_of = number(min(allowed), max(allowed))

    @takes(", ".join(map(str, allowed)))
    def parse(text: str) -> int:
        value = one_of(text)
        if value not in allowed:
            raise ValueError(f"write one of {', '.join(map(str, allowed))}")
        return value

    return parse


@takes("a number of bytes, perhaps with k, m or g")
def size_bytes(text: str) -> int:
    """Bytes; nginx's suffixes k, m, g are powers of 1,024."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("write a size such as 512k, 8m or 1g")
    power = "bkmg".index(match[2].lower() or "b")
    return min(int(match[1]) << (10 * power), MOST_BYTES)


@takes("a number and a size")
def buffers(text: str) -> tuple[int, int]:
    """How many, a blank, and how large."""
    count, _, size = text.partition(" ")
    return number(1, 1_000_000)(count), size_bytes(size)


@takes("a number of seconds, or one with ms, s, m or h; of more than 24 days 24 count")
def time_ms(text: str) -> int | Nearest[int]:
    """Milliseconds; a bare number is seconds, as nginx has it."""
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError("write a time in seconds, such as 60; at most 24 days")
    time = int(match[1]) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[match[2] or "s"]
    return time if time <= MAX_TIME_MS else Nearest(MAX_TIME_MS, "is more than HAProxy takes, 24 days count")


def _matching(pattern: re.Pattern[str], said: str, *, fold: bool = False) -> Grammar[str]:
    """`fold`: in any case, returned in lower case."""
    remedy = f"write {said}"

    @takes(said)
    def parse(text: str) -> str:
        text = text.lower() if fold and text.isascii() else text
        if len(text) > MAX_TEXT or not pattern.fullmatch(text):
            raise ValueError(remedy)
        return text

    return parse


token = _matching(_TOKEN, "letters, digits and -_. only, at most 128")
parameter = _matching(_PARAMETER, "letters, digits and -_.~ only, at most 64")
host = _matching(_HOST, "a DNS name", fold=True)
authority = _matching(_WITH_PORT, "a DNS name, perhaps with a port from 1 to 65535", fold=True)
path = _matching(_PATH, "a path that begins with / in printable ASCII without quotes, blanks or braces")
object_name = _matching(_OBJECT, "name or namespace/name of an object")
cookie_path = _matching(
    _COOKIE_PATH, "a path that begins with / in printable ASCII without quotes, blanks, braces or ;"
)
text_with_variables = _matching(_TEMPLATE, "printable ASCII without quotes, backslash, braces, brackets or blanks")
_location_path = _matching(
    _LOCATION_PATH, "a path that begins with / in printable ASCII without double quotes, blanks or braces"
)
plain = _matching(_PLAIN, "printable ASCII without quotes, backslash, braces, brackets or %")
_url = _matching(_URL, "http:// or https://, a DNS name, and a path without quotes, blanks or braces")


def _tidy(text: str) -> str:
    """Scheme and host in lower case, and a path before the query."""
    return _BEGINNING.sub(
        lambda found: f"{found[1]}{found[2]}".lower() + (f"/{found[3]}" if found[3] else ""), text, count=1
    )


@takes(_url.said)
def url(text: str) -> str:
    return _url(_tidy(text) if text.isascii() else text)


@takes(
    "http:// or https:// and a DNS name or [IPv6 address], perhaps a port and a path; or a path; with the variables"
    " $host, $scheme, $request_uri, $uri, $args"
)
def location(text: str) -> object:
    """Where a redirect leads: an absolute URL or a path, with variables of nginx; of the host only $host may be a part."""
    if not text.isascii():
        raise ValueError("write it in ASCII: hosts as xn--..., other characters as %C3%BC")
    _know_variables(text)
    if _WRONG_ESCAPE.search(text):
        raise ValueError("write two hexadecimal digits after each %, and % itself as %25")
    if text.startswith("/") and not text.startswith("//"):
        return _location_path(text)
    text = _tidy(text)
    begins = _BEGINNING.match(text)
    if begins and set(_VARIABLE.findall(begins[2])) - {"host"}:
        raise ValueError("clients choose the other variables: only $host can be a part of the host")
    found = (
        _LOCATION.fullmatch(f"{begins[1]}{begins[2].replace('$host', 'x')}{text[begins.end(2) :]}") if begins else None
    )
    if not found or len(text) > MAX_TEXT:
        remedy = "and a path without double quotes, blanks or braces"
        raise ValueError(f"write http:// or https://, a DNS name or [IPv6 address], perhaps a port, {remedy}")
    if found["address"]:
        try:
            ipaddress.IPv6Address(found["address"])
        except ValueError:
            raise ValueError("write an IPv6 address between [ and ]") from None
    return text


def _know_variables(text: str) -> None:
    unknown = [name for name in _VARIABLE.findall(text) if name not in VARIABLES]
    if unknown:
        raise ValueError(f"${unknown[0]} is not known; use only ${', $'.join(VARIABLES)}")


@takes("text without quotes, braces and blanks, with the variables $host, $scheme, $request_uri, $uri, $args")
def template_of_header(text: str) -> object:
    """A header's value, with variables of nginx."""
    _know_variables(text)
    return text_with_variables(text)


@takes("http://, https://, $scheme://, or one with $host or a DNS name, and a path; off")
def beginning(text: str) -> object:
    """What an address begins with, as nginx' proxy_redirect has it: a scheme, or scheme and host, perhaps a path; `off`."""
    if text == "off":
        return None
    if any(name not in ("host", "scheme") for name in _VARIABLE.findall(text)):
        raise ValueError("only $host and $scheme are known")
    return text if text in ("http://", "https://", "$scheme://") else location(text)


def replacement(item: Parser) -> Parser:
    """What is replaced, a blank, what by; `off`."""

    @takes(f"two words with a blank between, each {said(item)}; off")
    def parse(text: str) -> tuple[object, ...] | None:
        words = text.split()
        if text == "off":
            return None
        if len(words) != 2:
            raise ValueError("write two words with a blank between, or off; regular expressions are not known")
        return tuple(item(word) for word in words)

    return parse


@takes("a DNS name, perhaps with a dot before it")
def cookie_domain(text: str) -> object:
    """A dot at its beginning means nothing (RFC 6265, section 5.2.3)."""
    found = str(host(text.removeprefix(".")))
    if found.startswith("*"):
        raise ValueError("write a DNS name without *")
    return found


@takes("a path with $1 to $9, the groups of the path, perhaps one of these at its beginning")
def template(text: str) -> object:
    """A path with the groups of a pattern, $1 to $9; the first of them may have its slash."""
    unknown = [name for name in _VARIABLE.findall(text) if not re.fullmatch("[0-9].*", name)]
    if unknown:
        raise ValueError("only $1 to $9, the groups of the path, are known")
    path(f"/{text}" if text.startswith("$") else text)
    return text


@takes("a path that begins with /, without variables")
def fixed_path(text: str) -> object:
    if "$" in text:
        raise ValueError("variables and groups are not known; write the path itself")
    return path(text)


@takes("a path, also without / at its beginning")
def prefix(text: str) -> object:
    fixed_path(text if text.startswith("/") else f"/{text}")
    return text


@takes("max-age=SECONDS, perhaps ; includeSubDomains and ; preload")
def hsts(text: str) -> object:
    """The value of Strict-Transport-Security (RFC 6797, section 6.1)."""
    if not re.fullmatch(r"max-age=[0-9]{1,10}(; ?includeSubDomains)?(; ?preload)?", text, re.ASCII):
        raise ValueError("write max-age=SECONDS, then perhaps ; includeSubDomains and ; preload")
    return text


@takes("*, null, or a scheme, a name and perhaps a port; its first label may be *; what no browser writes is nobody's")
def origin(text: str) -> object:
    """An origin of CORS; browsers write them in lower case, and with a scheme."""
    found = text.lower() if text.isascii() else text
    if found not in ("*", "null") and not _ORIGIN.fullmatch(found):
        raise ValueError("write *, null, or an origin such as https://shop.example:8443, its first label perhaps *")
    return found


@takes("http:// or https://, a DNS name without variables, and a path")
def service_url(text: str) -> object:
    """An address that the proxy itself asks: nobody on its own machine or link (metadata services are there)."""
    if _VARIABLE_HOST.match(text):
        raise ValueError("name the service, without a variable: http://NAME.NAMESPACE.svc.cluster.local:PORT/PATH")
    text = url(text)
    found = _URL.fullmatch(text)
    assert found
    name = found[1].partition(":")[0]
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        near = name == "localhost" or name.endswith(".localhost")
    else:
        near = address.is_loopback or address.is_link_local or address.is_unspecified
    if near:
        raise ValueError("name a service of the cluster, not the proxy's own machine or link")
    return text


@takes("on or off")
def switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError('write "on" or "off"')
    return text == "on"


METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT")


@takes("a method in letters, the usual ones in any case, or *")
def method(text: str) -> str:
    """Of HTTP, also of an extension such as WebDAV; those are case-sensitive (RFC 9110, 9.1)."""
    if text != "*" and not re.fullmatch("[A-Za-z]{1,64}", text, re.ASCII):
        raise ValueError("write methods in letters")
    return text.upper() if text.upper() in METHODS else text


def words(*known: str, said: str = "") -> Grammar[tuple[str, ...]]:
    """Words of a closed set, in their order, once each; nginx needs no blanks between."""
    one = "|".join(sorted(map(re.escape, known), key=len, reverse=True))

    @takes(said or f"some of {', '.join(known)}")
    def parse(text: str) -> tuple[str, ...]:
        if not re.fullmatch(rf"(?:(?:{one})\s*)+", text.strip(), re.ASCII):
            raise ValueError(f"write some of {' '.join(known)}, with blanks between")
        return tuple(dict.fromkeys(re.findall(one, text)))

    return parse


def listed(item: Parser, most: int = 1024, *, blanks: bool = False) -> Grammar[tuple[object, ...]]:
    """A list; white space around items, and empty ones, are dropped. `blanks`: they separate, too."""

    @takes(f"at most {most:,} with , {'or blanks ' if blanks else ''}between, each {said(item)}")
    def parse(text: str) -> tuple[object, ...]:
        parts = [part.strip() for part in (re.split(r"[,\s]", text) if blanks else text.split(","))]
        parts = [part for part in parts if part]
        if not parts:
            raise ValueError("write at least one item")
        if len(parts) > most:
            raise ValueError(f"write at most {most} items")
        return tuple(item(part) for part in parts)

    return parse


@takes("an address or network")
def cidr(text: str) -> str:
    """An address or network, in its shortest spelling; host bits are dropped as nginx does."""
    if not re.fullmatch(r"[0-9a-fA-F.:/]{2,49}", text, re.ASCII):
        raise ValueError("write an address or network such as 10.0.0.0/8")
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError("write an address or network such as 10.0.0.0/8") from None


@takes("a regular expression without repeated groups, look-around, back-references")
def regex(text: str) -> str:
    """A regular expression that Python's `re` and PCRE2 take the same way and that can not explode.

    Characters, classes of them, groups, alternatives, repetition of anything but a group (that may be optional); at most
    MOST_STEPS steps for a text that does not match. Printable ASCII without blanks and quotes, at most 512 characters;
    backslashes and braces are part of it, so it goes where only data goes (a map's key), never into a line of configuration.
    """
    if not 0 < len(text) <= MAX_REGEX or not _REGEX_TEXT.fullmatch(text) or "%[" in text:
        raise ValueError(f"write at most {MAX_REGEX} printable ASCII characters without blanks, quotes or %[")
    if not _REGEX.fullmatch(text) or any(twice in text for twice in ("&&", "||", "~~", "--", "[:", "[.", "[=", "[^]")):
        raise ValueError(
            "do not repeat a group with * or +, nor use (?...), back-references, named classes or rare escapes"
        )
    if text.count("(") > MOST_GROUPS:
        raise ValueError(f"use at most {MOST_GROUPS} groups")
    try:
        re.compile(text, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError("correct the regular expression") from error
    if steps_of(text) > MOST_STEPS:
        raise ValueError("it could take too long: repeat what cannot match the character after it, as [^/]+/ for .*/")
    return text


@takes(regex.said)
def searched_regex(text: str) -> str:
    """One that may match anywhere in a text: it is tried from each position."""
    regex(text)
    anchored = text.startswith("^") and "|" not in text
    if not anchored and steps_of(text) * LONGEST_MATCHED > MOST_STEPS:
        raise ValueError("it could take too long: begin it with ^, or use * and + only once before other things")
    return text


def steps_of(text: str) -> int:
    """The most steps, about, that a regular expression of this grammar takes for LONGEST_MATCHED characters without a match.

    A repetition that can end in more than one way does what follows it again for each; one that ends in one way, since nothing
    follows or only what it cannot match, is walked through once. Each group tries its alternatives, which may match the same.
    """
    tokens = list(_TOKEN_OF_REGEX.finditer(text))
    steps, bars = 1, [0]
    for number in range(len(tokens) - 1, -1, -1):
        atom, times, rest = tokens[number]["atom"], tokens[number]["times"] or "", tokens[number]["rest"] or ""
        if atom:
            most, after = _most(times), tokens[number + 1 :]
            if most > 1 and any(one["atom"] or one["rest"] in ("(", "|") for one in after):
                steps = steps + most if _ends_in_one_way(atom, after) else steps * most
        elif rest.startswith(")"):
            bars.append(0)
            steps *= len(rest)
        elif rest.startswith("|"):
            bars[-1] += 1
        elif rest == "(" and len(bars) > 1:
            steps *= (bars.pop() + 1) ** 2
    return steps * (bars[0] + 1) ** 2


def _most(times: str) -> int:
    """How often at most."""
    if times.startswith(("*", "+")) or times.rstrip("?").endswith(",}"):
        return LONGEST_MATCHED
    if times.startswith("{"):
        return int(re.findall("[0-9]+", times)[-1])
    return 2 if times else 1


def _ends_in_one_way(atom: str, after: list[re.Match[str]]) -> bool:
    for token in after:
        if token["rest"] in ("(", "|", "^", ")?"):
            return False
        if token["atom"]:
            needed = not token["times"] or token["times"].startswith("+")
            return needed and _chars_of(atom).isdisjoint(_chars_of(token["atom"]))
    return True


@lru_cache(1024)
def _chars_of(atom: str) -> frozenset[str]:
    """The ASCII characters that an atom matches, in any case."""
    found = re.compile(atom, re.ASCII | re.IGNORECASE | re.DOTALL)
    return frozenset(char for char in map(chr, range(128)) if found.fullmatch(char))


@takes("CN= and a regular expression")
def common_name(text: str) -> str:
    """`CN=` and a regular expression, which is returned."""
    if not text.startswith("CN="):
        raise ValueError("write CN= and a name, or a regular expression for names")
    return regex(text.removeprefix("CN="))


TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


@takes("TLSv1, TLSv1.1, TLSv1.2, TLSv1.3 with blanks between, without gaps")
def tls_versions(text: str) -> tuple[str, str]:
    """The oldest and the newest of a list without gaps."""
    remedy = f"write some of {' '.join(TLS_VERSIONS)}, with a blank between, and none left out between two"
    try:
        found = sorted(TLS_VERSIONS.index(word) for word in _versions(text))
    except ValueError:
        raise ValueError(remedy) from None
    if found != list(range(found[0], found[-1] + 1)):
        raise ValueError(remedy)
    return TLS_VERSIONS[found[0]], TLS_VERSIONS[found[-1]]


_versions = words(*TLS_VERSIONS)


@takes("OpenSSL's names of ciphers with : between")
def ciphers(text: str) -> str:
    """OpenSSL's list of ciphers up to TLS 1.2 (ciphers(1)), without its @ commands; one that leaves none is refused."""
    if not _CIPHERS.fullmatch(text):
        raise ValueError("write names of OpenSSL's ciphers with : between, at most 512 characters")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(f"{text}:{NO_DHE}")
    except ssl.SSLError:
        raise ValueError("name at least one cipher that OpenSSL has") from None
    return text


@takes("")
def refused(_text: str) -> object:
    raise AssertionError("a row without support has no value")
