"""What a name, a host, a label may look like, and what Kubernetes says when it does not. No I/O."""

import re
from typing import Final

_PART = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_DOTTED = rf"{_PART}(\.{_PART})*"
_WORD = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL: Final = re.compile(rf"{_PART}\Z")
SUBDOMAIN: Final = re.compile(rf"{_DOTTED}\Z")
QUALIFIED: Final = re.compile(rf"{_WORD}\Z")
VALUE: Final = re.compile(rf"({_WORD})?\Z")
CONFIG_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+\Z")

LABEL_SAID: Final = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end "
    f"with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '{_PART}')"
)
SUBDOMAIN_SAID: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    f"end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{_DOTTED}')"
)
WILDCARD_SAID: Final = (
    "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of "
    "lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', "
    rf"regex used for validation is '\*\.{_DOTTED}')"
)
NAME_PART_SAID: Final = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    f"character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_WORD}')"
)
VALUE_SAID: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    f"'({_WORD})?')"
)
CONFIG_KEY_SAID: Final = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  "
    "or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
)


def port_name_said(name: str) -> list[str]:
    """Why this is no name of a port (IANA service name, RFC 6335, section 5.1), each reason."""
    wrong = {
        "must be no more than 15 characters": len(name) > 15,
        "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)": not re.match(r"[-a-z0-9]+\Z", name),
        "must contain at least one letter (a-z)": not re.search("[a-z]", name),
        "must not contain consecutive hyphens": "--" in name,
        "must not begin or end with a hyphen": name.startswith("-") or name.endswith("-"),
    }
    return [said for said, is_wrong in wrong.items() if is_wrong]


def label_key_said(key: str) -> str:
    """Why this is no key of a label or annotation (`prefix/name`); empty if it is one."""
    prefix, slash, name = key.rpartition("/")
    if slash and not (prefix and len(prefix) <= 253 and SUBDOMAIN.match(prefix)):
        return f"prefix part {SUBDOMAIN_SAID}"
    if not name:
        return "name part must be non-empty"
    if len(name) > 63:
        return "name part must be no more than 63 characters"
    return "" if QUALIFIED.match(name) else NAME_PART_SAID
