"""docs/ingress-annotations.md, from the table."""

from vrata.ingress.annotations.grammar import said
from vrata.ingress.annotations.parse import GROUPS
from vrata.ingress.annotations.source import SOURCE
from vrata.ingress.annotations.table import TABLE, Row, Support

HEAD = """# Annotations of Ingresses

This page is for those who write Ingresses, or bring them from ingress-nginx. It lists every annotation with its verdict, its
values and its default. It is generated from `vrata.ingress.annotations.table`.

Each name is read under `nginx.ingress.kubernetes.io/` and `vrata.dev/`; the latter wins. A value that cannot be read is reported
by an event on the Ingress. It has no effect, or leaves the whole Ingress out where ignoring it would grant access. What other
controllers have for the same purpose is in [the table of purposes](ingress.md#annotations).

| annotation | scope | here | a bad value | note |
|---|---|---|---|---|
"""
VALUES = """
## Values and defaults

How each is read by ingress-nginx (the parser of its source, by name or as a regular expression) and here, and what holds where it
is not said. An empty value is none, there and here, except lists of networks: there it keeps everybody out, here it leaves the
Ingress out. Blanks and line breaks around a value or an item of a list, and empty items, mean nothing.

The last column names values that ingress-nginx takes and that are not taken here; all others are, as long as names have at most
128 characters and texts 256. Of numbers and times beyond the bounds the bound counts, which an event says.

| annotation | ingress-nginx | its default | here | default here | not taken here |
|---|---|---|---|---|---|
"""
# Where the default is not that of a field of Options.
_DEFAULTS = {
    "auth-method": "GET",
    "auth-request-redirect": "$request_uri",
    "auth-secret-type": "auth-file",
    "auth-signin-redirect-param": "rd",
    "cors-allow-headers": "as there",
    "connection-proxy-header": "keep-alive",
    "proxy-connect-timeout": "0.5; 5 with TLS",
    "proxy-next-upstream": "error",
    "proxy-next-upstream-tries": "4",
    "proxy-read-timeout": "60",
    "proxy-send-timeout": "60",
    "proxy-ssl-ciphers": "OpenSSL's",
    "proxy-ssl-protocols": "TLSv1.2 TLSv1.3",
    "session-cookie-path": "the rule's path",
    "session-cookie-secure": "over HTTPS",
    "ssl-redirect": "true",
}


def document() -> str:
    """The whole file, in the order of the names."""
    return _verdicts() + VALUES + "".join(_values(name) for name in sorted({*TABLE, *SOURCE}))


def _values(name: str) -> str:
    parser, default = SOURCE.get(name, ("", ""))
    row = TABLE[name]
    supported = row.support is not Support.NO
    here = said(row.parse) if supported else "not supported"
    own = _default(row) if supported else ""
    cells = (f"`{name}`", f"`{parser}`" if parser else "", default, here, own, row.refuses)
    return f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |\n"


BAR = "\\|"


def _default(row: Row) -> str:
    if row.group == "hints":
        return ""
    value = getattr(GROUPS[row.group](), row.field)
    if row.name in _DEFAULTS or value is None or value == ():
        return _DEFAULTS.get(row.name, "")
    if isinstance(value, bool):
        wanted = ("on", "off") if said(row.parse) == "on or off" else ("true", "false")
        return wanted[0] if value else wanted[1]
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _verdicts() -> str:
    lines = []
    for name, row in sorted(TABLE.items()):
        unsupported = row.support is Support.NO
        verdict = "not supported" if unsupported else str(row.support)
        effect = "leaves the Ingress out" if row.closed else "has no effect"
        subject = f"any value {effect}" if unsupported else effect
        lines.append(f"| `{name}` | {row.scope} | {verdict} | {subject} | {row.note} |\n")
    return HEAD + "".join(lines)
