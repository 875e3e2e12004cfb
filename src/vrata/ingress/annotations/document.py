"""docs/ingress-annotations.md, from the table."""

from vrata.ingress.annotations.table import TABLE, Support

HEAD = """# Annotations of Ingresses

Generated from `vrata.ingress.annotations.table`. Each name is read under `nginx.ingress.kubernetes.io/` and
`vrata.dev/`; the latter wins. A value that can not be read is told by an event on the Ingress. It has no effect, or leaves
the whole Ingress out where ignoring it would open a door.

Tests with packets are in `tests/system/ingress`; whether a value can be read is tested for each in
`unit/ingress/annotations/test_annotations.py`, whether any can do harm in `test_hostile.py`. What other controllers have for
the same purpose is in [the table of purposes](ingress.md).

| annotation | scope | here | a bad value | note | test |
|---|---|---|---|---|---|
"""
_TESTS = {
    "access": "test_annotations.py`, `test_doors.py",
    "affinity": "test_annotations.py`, `test_details.py",
    "answers": "test_answers.py",
    "backend": "test_annotations.py`, `test_details.py",
    "backend_tls": "test_trust.py",
    "basic_auth": "test_doors.py",
    "client_tls": "test_trust.py",
    "cors": "test_annotations.py`, `test_details.py",
    "external_auth": "test_doors.py`, `test_external_auth.py",
    "mirror": "test_mirror.py",
    "rate_limit": "test_annotations.py`, `test_details.py",
    "redirect": "test_annotations.py`, `test_details.py",
    "enable-access-log": "test_access_log.py",
    "hsts": "test_details.py",
    "ssl-passthrough": "test_passthrough.py",
    "": "test_unsupported_annotation_says_what_instead",
    "hints": "test_good_value_sets_its_field",
}


def document() -> str:
    """The whole file, in the order of the names."""
    lines = []
    for name, row in sorted(TABLE.items()):
        unsupported = row.support is Support.NO
        verdict = "not supported" if unsupported else str(row.support)
        effect = "leaves the Ingress out" if row.closed else "has no effect"
        subject = f"any value {effect}" if unsupported else effect
        test = _TESTS.get(name) or _TESTS.get(row.group, "test_annotations.py")
        lines.append(f"| `{name}` | {row.scope} | {verdict} | {subject} | {row.note} | `{test}` |\n")
    return HEAD + "".join(lines)
