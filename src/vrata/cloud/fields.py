"""Checks request bodies against a declared list of fields; the API turns a `Problem` into its own sentence.

It decides types, ranges and choices of single fields; what fields mean together is the resource's business.
"""

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Unset(Enum):
    """Marks a default that is not there, so that null stays a value."""

    UNSET = "unset"


UNSET = Unset.UNSET
UUID = re.compile(r"^[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}\Z")
INT_MAX = 2**31 - 1  # of a column
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CONTROL_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Problem(Exception):
    """One field is wrong; `kind` is unknown, missing, readonly or invalid."""

    def __init__(self, kind: str, name: str, value: object = None, why: str = "") -> None:
        super().__init__(f"{name}: {why or kind}")
        self.kind = kind
        self.name = name
        self.value = value
        self.why = why


@dataclass(frozen=True)
class Field:
    """One field of a body. `kind`: str, int, float, bool, uuid, ip, address, cidr, list, dict, strings, records, any.

    Everything has a bound: numbers that of their column, texts `length`, lists and objects `items`.
    """

    kind: str = "str"
    default: Any = UNSET
    required: bool = False
    nullable: bool = True
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    length: int = 255
    items: int = 100
    lines: bool = False  # a text of several lines
    create: bool = True
    update: bool = True

    def check(self, name: str, value: Any) -> Any:
        """The value in its stored form; Problem if it is not one."""
        if value is None:
            if self.nullable:
                return None
            raise Problem("invalid", name, value, "Value may not be null.")
        value = _CHECKS[self.kind](self, name, value)
        if self.choices and value not in self.choices:
            raise Problem("invalid", name, value, f"Value should be one of: {', '.join(self.choices)}")
        return value


def parse(body: Mapping[str, Any], fields: Mapping[str, Field], *, updating: bool = False) -> dict[str, Any]:
    """The checked values: on create with defaults filled in, on update only what was given."""
    out: dict[str, Any] = {}
    for name, value in body.items():
        field = fields.get(name)
        if field is None:
            raise Problem("unknown", name, value)
        if not (field.update if updating else field.create):
            raise Problem("readonly", name, value)
        out[name] = field.check(name, value)
    if not updating:
        for name, field in fields.items():
            if field.required and out.get(name) is None:
                raise Problem("missing", name, None, "Mandatory field missing.")
            if name in out and (out[name] is not None or field.default is UNSET):
                continue
            if field.default is not UNSET and out.get(name) is None:
                out[name] = field.default
    return out


def _str(field: Field, name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise Problem("invalid", name, value, "Value should be string")
    if len(value) > field.length:
        raise Problem("invalid", name, value, f"Value should have a maximum character requirement of {field.length}")
    if (_CONTROL_BUT_LINES if field.lines else _CONTROL).search(value):
        raise Problem("invalid", name, value, "Value should not contain control characters")
    return value


def _number(field: Field, name: str, value: Any) -> Any:
    if isinstance(value, bool):
        raise Problem("invalid", name, value, f"Wrong type. Expected '{field.kind}', got 'bool'")
    try:
        number = float(value) if field.kind == "float" else int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise Problem("invalid", name, value, f"Wrong type. Expected '{field.kind}'") from error
    if isinstance(value, float) and field.kind == "int" and value != number:
        raise Problem("invalid", name, value, "Wrong type. Expected 'int', got 'float'")
    least = -INT_MAX if field.least is None else field.least
    most = INT_MAX if field.most is None else field.most
    if not number >= least:  # so that what is no number fails, too
        raise Problem("invalid", name, value, f"Value should be greater or equal to {_bound(least)}")
    if number > most:
        raise Problem("invalid", name, value, f"Value should be lower or equal to {_bound(most)}")
    return number


def _bound(number: float) -> str:
    """1 as 1, not as 1.0, and large numbers in full."""
    return str(int(number)) if number == int(number) else str(number)


def _bool(_field: Field, name: str, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str | int) and str(value).lower() in {"true", "false", "1", "0"}:
        return str(value).lower() in {"true", "1"}
    raise Problem("invalid", name, value, "Wrong type. Expected 'bool'")


def _uuid(_field: Field, name: str, value: Any) -> str:
    if not isinstance(value, str) or not UUID.match(value):
        raise Problem("invalid", name, value, "Value should be UUID format")
    return value


def _ip(_field: Field, name: str, value: Any) -> str:
    try:
        if not isinstance(value, str) or "/" in value or "%" in value:
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError as error:
        raise Problem("invalid", name, value, "Value should be IPv4 or IPv6 format") from error


def _address(field: Field, name: str, value: Any) -> str:
    _ip(field, name, value)
    return str(value)


def _cidr(_field: Field, name: str, value: Any) -> str:
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError as error:
        raise Problem("invalid", name, value, "Value should be IPv4 or IPv6 CIDR format") from error


def _of(kind: type, word: str) -> Any:
    def check(field: Field, name: str, value: Any) -> Any:
        if not isinstance(value, kind):
            raise Problem("invalid", name, value, f"Wrong type. Expected '{word}', got '{type(value).__name__}'")
        return _few(field, name, value)

    return check


def _few(field: Field, name: str, value: Any) -> Any:
    if len(value) > field.items:
        raise Problem("invalid", name, f"{len(value)} items", f"Value should have at most {field.items} items")
    return value


def _strings(field: Field, name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise Problem("invalid", name, value, "Wrong type. Expected a list of strings")
    return [_str(field, name, item) for item in _few(field, name, value)]


def _records(field: Field, name: str, value: Any) -> list[dict[str, Any]]:
    """Objects whose values are texts, numbers or null."""
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Problem("invalid", name, value, "Wrong type. Expected a list of objects")
    for one in _few(field, name, value):
        for key, held in _few(field, name, one).items():
            _str(field, name, key)
            if held is not None and not isinstance(held, bool):
                _str(field, name, str(held) if isinstance(held, int | float) else held)
    return value


_CHECKS: dict[str, Any] = {
    "str": _str,
    "int": _number,
    "float": _number,
    "bool": _bool,
    "uuid": _uuid,
    "ip": _ip,
    "address": _address,  # an address in the words of the user: ::1 and 0::1 are two texts
    "cidr": _cidr,
    "list": _of(list, "list"),
    "dict": _of(dict, "dict"),
    "strings": _strings,
    "records": _records,
    "any": lambda _field, _name, value: value,
}
