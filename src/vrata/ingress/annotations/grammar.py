"""Grammars of annotation values: each takes the text and returns a value, or raises ValueError with the remedy.

What comes out is a number, a member of a closed set, an address, or text of printable ASCII without quotes,
backslash, braces, `%[`, newline or NUL. Only `regex` and `rewrite_path` allow more, and say what.
"""

import ipaddress
import re
import ssl
from collections.abc import Callable

Parser = Callable[[str], object]
MAX_TEXT = 2048
MAX_REGEX = 512
MAX_TIME_MS = 24 * 86_400_000  # HAProxy's own bound is 2**31

_TOKEN = re.compile(r"[A-Za-z0-9!#$&*+.^_|~-]{1,128}", re.ASCII)
_PARAMETER = re.compile(r"[A-Za-z0-9._~-]{1,64}", re.ASCII)
_CIPHERS = re.compile(r"[A-Za-z0-9!+:_-]{1,512}", re.ASCII)
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9/._~!$&()*+,;=:@%?#-]*", re.ASCII)
_AUTHORITY = rf"{_LABEL}(?:\.{_LABEL})*(?::[0-9]{{1,5}})?"
_URL = re.compile(rf"https?://({_AUTHORITY})(?:\$request_uri|/[A-Za-z0-9/._~!&*+,;=:@%?#$-]*)?", re.ASCII)
_VARIABLE_HOST = re.compile(r"https?://[^/]*\$(?!request_uri)", re.ASCII)
_OBJECT = re.compile(rf"(?:{_LABEL}/)?{_LABEL}(?:\.{_LABEL})*", re.ASCII)
_PLAIN = re.compile(r"[A-Za-z0-9 !#$&()*+,./:;<=>?@^_|~-]{1,256}", re.ASCII)
_SIZE = re.compile(r"([0-9]{1,12})([kKmMgG]?)", re.ASCII)
_TIME = re.compile(r"([0-9]{1,7})(ms|s|m|h)?", re.ASCII)
_ESCAPE = r"\\[wdsWDSbB]|\\[^A-Za-z0-9\s]"
_ATOM = rf"(?:{_ESCAPE}|\[\^?(?:{_ESCAPE}|[^\\\[\]])+\]|[^\\\[\](){{}}*+?|^$])"
_TIMES = r"(?:[*+?]\??|\{[0-9]{1,3}(?:,[0-9]{0,3})?\})"
_REGEX = re.compile(rf"(?:{_ATOM}{_TIMES}?|\)\??|[|^$(])+", re.ASCII)
_REGEX_TEXT = re.compile(r"[!#-&(-_a-~]+", re.ASCII)  # printable, no blank and no quote or backtick
_UNBOUNDED = re.compile(r"(?<!\\)[*+]|,\}")
MOST_GROUPS = 20
MOST_UNBOUNDED = 4  # each one multiplies the time that a text without a match can take
_VARIABLE = re.compile(r"\$([A-Za-z0-9_]*)", re.ASCII)
VARIABLES = ("host", "scheme", "request_uri", "escaped_request_uri", "uri", "args")


def boolean(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError('write "true" or "false"')
    return text == "true"


def choice(*words: str, fold: bool = False) -> Parser:
    """One word of a closed set, returned as spelled here; `fold` takes any case."""

    def parse(text: str) -> str:
        for word in words:
            if text == word or (fold and text.isascii() and text.lower() == word.lower()):
                return word
        raise ValueError(f"write one of {', '.join(words)}")

    return parse


def number(least: int, most: int) -> Parser:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) or not least <= int(text) <= most:
            raise ValueError(f"write a whole number from {least} to {most}")
        return int(text)

    return parse


def numbers(*allowed: int) -> Parser:
    one_of = number(min(allowed), max(allowed))

    def parse(text: str) -> int:
        value = one_of(text)
        if value not in allowed:
            raise ValueError(f"write one of {', '.join(map(str, allowed))}")
        return int(text)

    return parse


def size_bytes(text: str) -> int:
    """Bytes; nginx's suffixes k, m, g are powers of 1,024."""
    match = _SIZE.fullmatch(text)
    if not match:
        raise ValueError("write a size such as 512k, 8m or 1g")
    power = " kmg".index(match[2].lower() or " ")
    return int(match[1]) * (1 << (10 * power))


def time_ms(text: str) -> int:
    """Milliseconds; a bare number is seconds, as nginx has it."""
    match = _TIME.fullmatch(text)
    time = (
        int(match[1]) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}[match[2] or "s"] if match else MAX_TIME_MS + 1
    )
    if time > MAX_TIME_MS:
        raise ValueError("write a time in seconds, such as 60; at most 24 days")
    return time


def _matching(pattern: re.Pattern[str], remedy: str) -> Parser:
    def parse(text: str) -> str:
        if len(text) > MAX_TEXT or not pattern.fullmatch(text):
            raise ValueError(remedy)
        return text

    return parse


token = _matching(_TOKEN, "write letters, digits and -_. only, at most 128")
parameter = _matching(_PARAMETER, "write letters, digits and -_.~ only, at most 64")
host = _matching(_HOST, "write a DNS name in lower case")
path = _matching(_PATH, "write a path that begins with / in printable ASCII without quotes, blanks or braces")
url = _matching(_URL, "write http:// or https://, a DNS name, and a path without quotes, blanks or braces")
object_name = _matching(_OBJECT, "write name or namespace/name of an object")
plain = _matching(_PLAIN, "write printable ASCII without quotes, backslash, braces, brackets or %")


def location(text: str) -> object:
    """Where a redirect leads: an absolute URL or a path, with variables of nginx."""
    unknown = [name for name in _VARIABLE.findall(text) if name not in VARIABLES]
    if unknown:
        raise ValueError(f"${unknown[0]} is not known; use only ${', $'.join(VARIABLES)}")
    if text.startswith("/") and not text.startswith("//"):
        return path(text)
    stand_ins = {"scheme": "https", "host": "x", "request_uri": "/", "uri": "/"}
    url(_VARIABLE.sub(lambda found: stand_ins.get(found[1], "x"), text))
    return text


def beginning(text: str) -> object:
    """What an address begins with, as nginx' proxy_redirect has it: a scheme, or scheme and host, perhaps a path; `off`."""
    if text == "off":
        return None
    if any(name not in ("host", "scheme") for name in _VARIABLE.findall(text)):
        raise ValueError("only $host and $scheme are known")
    return text if text in ("http://", "https://", "$scheme://") else location(text)


def replacement(item: Parser) -> Parser:
    """What is replaced, a blank, what by; `off`."""

    def parse(text: str) -> tuple[object, ...] | None:
        words = text.split(" ")
        if text == "off":
            return None
        if len(words) != 2:
            raise ValueError("write two words with a blank between, or off; regular expressions are not known")
        return tuple(item(word) for word in words)

    return parse


def cookie_domain(text: str) -> object:
    """A dot at its beginning means nothing (RFC 6265, section 5.2.3)."""
    found = str(host(text.removeprefix(".")))
    if found.startswith("*"):
        raise ValueError("write a DNS name without *")
    return found


def template(text: str) -> object:
    """A path with the groups of a pattern, $1 to $9."""
    unknown = [name for name in _VARIABLE.findall(text) if not re.fullmatch("[0-9].*", name)]
    if unknown:
        raise ValueError("only $1 to $9, the groups of the path, are known")
    return path(text)


def hsts(text: str) -> object:
    """The value of Strict-Transport-Security (RFC 6797, section 6.1)."""
    if not re.fullmatch(r"max-age=[0-9]{1,10}(; ?includeSubDomains)?(; ?preload)?", text, re.ASCII):
        raise ValueError("write max-age=SECONDS, then perhaps ; includeSubDomains and ; preload")
    return text


def origin(text: str) -> object:
    """An origin of CORS: `*`, or scheme, host and port; the first label of the host may be `*`."""
    if text != "*":
        url(text.replace("://*.", "://x.", 1))
    return plain(text)


def service_url(text: str) -> object:
    """An address that the proxy itself asks: nobody on its own machine or link (metadata services are there)."""
    if _VARIABLE_HOST.match(text):
        raise ValueError("name the service, without a variable: http://NAME.NAMESPACE.svc.cluster.local:PORT/PATH")
    found = _URL.fullmatch(str(url(text)))
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


def switch(text: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError('write "on" or "off"')
    return text == "on"


def listed(item: Parser, most: int = 1024, *, separator: str = ",") -> Parser:
    """A list; blanks around items are dropped, an empty item is an error."""

    def parse(text: str) -> tuple[object, ...]:
        parts = [part.strip(" ") for part in text.split(separator)]
        if len(parts) > most:
            raise ValueError(f"write at most {most} items")
        return tuple(item(part) for part in parts)

    return parse


def cidr(text: str) -> str:
    """An address or network, in its shortest spelling; host bits are dropped as nginx does."""
    if not re.fullmatch(r"[0-9a-fA-F.:/]{2,49}", text, re.ASCII):
        raise ValueError("write an address or network such as 10.0.0.0/8")
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError("write an address or network such as 10.0.0.0/8") from None


def regex(text: str) -> str:
    """A regular expression that Python's `re` and PCRE2 take the same way and that can not explode.

    Characters, classes of them, groups, alternatives, repetition of anything but a group (that may be optional). Printable
    ASCII without blanks and quotes, at most 512 characters; backslashes and braces are part of it, so it goes where only
    data goes (a map's key), never into a line of configuration.
    """
    if not 0 < len(text) <= MAX_REGEX or not _REGEX_TEXT.fullmatch(text) or "%[" in text:
        raise ValueError(f"write at most {MAX_REGEX} printable ASCII characters without blanks, quotes or %[")
    if not _REGEX.fullmatch(text) or any(twice in text for twice in ("&&", "||", "~~", "--", "[:", "[.", "[=")):
        raise ValueError(
            "do not repeat a group with * or +, nor use (?...), back-references, named classes or rare escapes"
        )
    if len(_UNBOUNDED.findall(text)) > MOST_UNBOUNDED or text.count("(") > MOST_GROUPS:
        raise ValueError(f"use * and + at most {MOST_UNBOUNDED} times, and at most {MOST_GROUPS} groups")
    try:
        re.compile(text, re.ASCII)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError("mend the regular expression") from error
    return text


def common_name(text: str) -> str:
    """`CN=` and a regular expression, which is returned."""
    if not text.startswith("CN="):
        raise ValueError("write CN= and a name, or a regular expression for names")
    return regex(text.removeprefix("CN="))


TLS_VERSIONS = ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")


def tls_versions(text: str) -> tuple[str, str]:
    """The oldest and the newest of a list without gaps."""
    remedy = f"write some of {' '.join(TLS_VERSIONS)}, with a blank between, and none left out between two"
    try:
        found = sorted({TLS_VERSIONS.index(word) for word in text.split(" ")})
    except ValueError:
        raise ValueError(remedy) from None
    if found != list(range(found[0], found[-1] + 1)):
        raise ValueError(remedy)
    return TLS_VERSIONS[found[0]], TLS_VERSIONS[found[-1]]


def ciphers(text: str) -> str:
    """OpenSSL's list of ciphers up to TLS 1.2 (ciphers(1)), without its @ commands; one that leaves none is refused."""
    if not _CIPHERS.fullmatch(text):
        raise ValueError("write names of OpenSSL's ciphers with : between, at most 512 characters")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).set_ciphers(text)
    except ssl.SSLError:
        raise ValueError("name at least one cipher that OpenSSL has") from None
    return text


def refused(_text: str) -> object:
    raise AssertionError("a row without support has no value")
