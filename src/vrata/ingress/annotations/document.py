"""docs/ingress-annotations.md, from the table."""

from vrata.ingress.annotations.table import TABLE, Support

HEAD = """# Annotations of Ingresses

Generated from `vrata.ingress.annotations.table`. Each name is read under `nginx.ingress.kubernetes.io/` and
`vrata.dev/`; the latter wins. A value that can not be read is told by an event on the Ingress. It has no effect, or leaves
the whole Ingress out where ignoring it would open a door.

| annotation | scope | here | a bad value | note |
|---|---|---|---|---|
"""


def document() -> str:
    """The whole file, in the order of the names."""
    lines = []
    for name, row in sorted(TABLE.items()):
        unsupported = row.support is Support.NO
        verdict = "not supported" if unsupported else str(row.support)
        effect = "leaves the Ingress out" if row.closed else "has no effect"
        subject = f"any value {effect}" if unsupported else effect
        lines.append(f"| `{name}` | {row.scope} | {verdict} | {subject} | {row.note} |\n")
    return HEAD + "".join(lines)
