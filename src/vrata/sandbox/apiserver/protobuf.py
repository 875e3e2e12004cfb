"""Reads request bodies in `application/vnd.kubernetes.protobuf`, which kubectl's typed commands send.

Answers are always JSON, which every client accepts. The envelope is `k8s\\0` and a runtime.Unknown; messages are read
by the field numbers of `kinds.numbers` and the types of the schemas. What has no number here is refused with 415, not
dropped. No I/O.
"""

import base64
import re
import struct
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from vrata.base.clock import rfc3339, rfc3339_micro
from vrata.sandbox.apiserver.errors import ApiError, Obj, bad_request, unsupported_media_type
from vrata.sandbox.apiserver.kinds.apps import TYPES
from vrata.sandbox.apiserver.kinds.numbers import NUMBERS
from vrata.sandbox.apiserver.schema import Schema

MAGIC: Final = b"k8s\x00"
DEPTH_MAX: Final = 64
_MICRO: Final = frozenset(("acquireTime", "renewTime", "eventTime", "lastObservedTime"))
Table = dict[int, "str | Table"]


def _tables() -> dict[str, Table]:
    tables: dict[str, Table] = {}
    for line in NUMBERS.replace("\n  ", " ").strip().splitlines():
        name, *words = line.split()
        table = tables.setdefault(name, {})
        for word in words:
            match = re.fullmatch(r"(\d+)(?:=(\w+\??)|\{(.*)\})", word)
            assert match, word
            nested: Table = {}
            for part in (match[3] or "").split(","):
                number, _, inner = part.partition("=")
                if inner:
                    nested[int(number)] = inner
            table[int(match[1])] = match[2] or nested
    return tables


_TABLES: Final = _tables()
Field = tuple[int, "int | bytes"]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise bad_request("protobuf: a number is longer than 64 bits")


def _fields(data: bytes) -> list[Field]:
    """Split a message into (number, value); lengths that do not fit are refused."""
    found: list[Field] = []
    at = 0
    try:
        while at < len(data):
            key, at = _varint(data, at)
            number, wire = key >> 3, key & 7
            if wire == 0:
                value, at = _varint(data, at)
                found.append((number, value))
                continue
            size = {1: 8, 5: 4}.get(wire)
            if wire == 2:
                size, at = _varint(data, at)
            if size is None or at + size > len(data):
                raise bad_request("protobuf: the message is damaged")
            found.append((number, data[at : at + size]))
            at += size
    except IndexError as error:
        raise bad_request("protobuf: the message ends too early") from error
    return found


def _signed(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise bad_request("protobuf: a number was expected")
    return value - (1 << 64) if value >> 63 else value


def _bytes(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise bad_request("protobuf: text or a message was expected")
    return value


def _text(value: int | bytes) -> str:
    try:
        return _bytes(value).decode()
    except UnicodeDecodeError as error:
        raise bad_request("protobuf: text is not UTF-8") from error


def _time(data: bytes, *, micro: bool) -> str | None:
    """metav1.Time or MicroTime; the zero time is null."""
    parts = dict(_fields(data))
    seconds = _signed(parts.get(1, 0))
    if not parts or seconds <= -62135596800:
        return None
    try:
        moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=_signed(parts.get(2, 0)) // 1000)
    except (ValueError, OverflowError, OSError) as error:
        raise bad_request("protobuf: a time is out of range") from error
    return rfc3339_micro(moment) if micro else rfc3339(moment)


def _scalar_message(schema: Schema, data: bytes) -> Any:
    parts = dict(_fields(data))
    if schema.name == "Quantity":
        return _text(parts.get(1, b""))
    if _signed(parts.get(1, 0)) == 1:
        return _text(parts.get(3, b""))
    return _signed(parts.get(2, 0))


def _value(schema: Schema, name: str, value: int | bytes, depth: int) -> Any:
    if depth > DEPTH_MAX:
        raise bad_request("protobuf: the message is nested too deeply")
    match schema.type:
        case "boolean":
            return bool(_signed(value))
        case "integer":
            return _signed(value)
        case "number":
            return struct.unpack("<d", _bytes(value))[0] if len(_bytes(value)) == 8 else 0.0
        case "int-or-string":
            return _scalar_message(schema, _bytes(value))
        case "string" if schema.format == "byte":
            return base64.b64encode(_bytes(value)).decode()
        case "string" if schema.format == "date-time":
            return _time(_bytes(value), micro=name in _MICRO)
        case "string":
            return _text(value)
        case "object" if schema.fields:
            return _message(schema, _bytes(value), depth + 1)
    if name == "fieldsV1":
        return msgspec.json.decode(_bytes(dict(_fields(_bytes(value))).get(1, b"{}")))
    raise _refused(name)


def _refused(what: str) -> ApiError:
    error = unsupported_media_type(("application/json", "application/yaml"))
    error.message += f" (protobuf is not read for {what})"
    return error


def _message(schema: Schema, data: bytes, depth: int) -> Obj:
    if schema.name not in _TABLES:
        raise _refused(schema.name)
    out: Obj = {}
    _into(out, schema, _TABLES[schema.name], data, depth)
    return out


def _into(out: Obj, schema: Schema, table: Table, data: bytes, depth: int) -> None:
    for number, value in _fields(data):
        name = table.get(number)
        if name is None:
            if value:
                raise _refused(f"field {number} of {schema.name}")
            continue
        if isinstance(name, dict):
            _into(out, schema, name, _bytes(value), depth)
            continue
        optional, name = name.endswith("?"), name.rstrip("?")
        field = schema.fields[name]
        if field.type == "array" and field.items is not None:
            out.setdefault(name, []).append(_value(field.items, name, value, depth))
        elif field.type == "object" and field.values is not None:
            pair = dict(_fields(_bytes(value)))
            key = _text(pair.get(1, b""))
            out.setdefault(name, {})[key] = _value(field.values, name, pair.get(2, b""), depth)
        else:
            read = _value(field, name, value, depth)
            # Go writes the zero values of fields that are no pointers; JSON leaves them out.
            if read is not None and (read or not optional or isinstance(read, dict | list)):
                out[name] = read


_SAME_KIND: Final = {("events.k8s.io/v1", "Event"): "EventsEvent"}


def decode(data: bytes) -> Obj:
    """A request's body as the object that JSON would have given."""
    if not data.startswith(MAGIC):
        raise bad_request("the body does not begin as Kubernetes' protobuf does")
    envelope = dict(_fields(data[len(MAGIC) :]))
    about = dict(_fields(_bytes(envelope.get(1, b""))))
    version, kind = _text(about.get(1, b"")), _text(about.get(2, b""))
    schema = TYPES.get(_SAME_KIND.get((version, kind), kind))
    if schema is None:
        raise _refused(f"{version}, Kind={kind}")
    return {"apiVersion": version, "kind": kind} | _message(schema, _bytes(envelope.get(2, b"")), 0)
