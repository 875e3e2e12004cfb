"""Secrets (Barbican v1): stored sealed, listed without their payload, read back byte for byte by those who may.

Deleting a secret that a listener or pool still serves with hides it from its users; its bytes go with the last use.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.fields import Field, Problem, parse
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.keymanager import access, lists, negotiation, uses
from vrata.cloud.keymanager import tables as t
from vrata.cloud.keymanager.vault import Vault
from vrata.cloud.store import Row

PAYLOAD_MAX = 65_536  # bytes; Barbican's own default is 20,000, too few for long revocation lists
TYPES = ("symmetric", "public", "private", "passphrase", "certificate", "opaque")
TEXT, BINARY = "text/plain", "application/octet-stream"
BINARIES = (BINARY, "application/pkcs8")
CONTENT_TYPES = (TEXT, *BINARIES, "application/pkix-cert")
FILTERS = {"name": "name", "alg": "algorithm", "mode": "mode", "bits": "bit_length", "secret_type": "secret_type"}
TIMES = {"created": "created_at", "updated": "updated_at", "expiration": "expires_at"}
SORTED = (
    {name: name for name in ("algorithm", "bit_length", "mode", "name", "secret_type")} | TIMES | {"status": "deleted"}
)

FIELDS = {
    "name": Field(default=""),
    "secret_type": Field(default="opaque", choices=TYPES),
    "algorithm": Field(),
    "bit_length": Field("int", least=1, most=2_147_483_647),
    "mode": Field(),
    "expiration": Field(),
    "payload": Field(length=2 * PAYLOAD_MAX, lines=True),
    "payload_content_type": Field(),
    "payload_content_encoding": Field(),
}


def reference(call: Call, secret_id: str) -> str:
    """The address by which everybody names a secret."""
    return f"{call.base_url}/key-manager/v1/secrets/{secret_id}"


def create(call: Call) -> Answer:
    """POST secrets, with or without the payload."""
    own = access.project(call, write=True)
    values = checked(call.body, FIELDS, "Secret")
    row = {
        "id": ids.new_uuid(), "project_id": own, "creator_id": call.caller.user_id, "name": values["name"],
        "secret_type": values["secret_type"], "algorithm": values.get("algorithm"),
        "bit_length": values.get("bit_length"), "mode": values.get("mode"),
        "expires_at": _expiry(values.get("expiration")), "content_type": None, "sealed": None, "acl": None,
        "deleted": False, "created_at": now(), "updated_at": now(),
    }  # fmt: skip
    if values.get("payload") is not None:
        kind = _content_type(values.get("payload_content_type"))
        payload = _decoded(values["payload"], kind, values.get("payload_content_encoding"))
        row |= {"content_type": kind, "sealed": _sealed(call, row["id"], payload)}
    elif values.get("payload_content_type") is not None:
        raise ApiError(400, "Provided object does not match schema 'Secret': payload must be provided when "
                            "payload_content_type is supplied. Invalid property: 'payload'")  # fmt: skip
    call.tx.insert(t.secrets, row)
    uses.purge(call.tx)
    ref = reference(call, row["id"])
    return Answer(201, {"secret_ref": ref}, {"location": ref})


def checked(body: Any, fields: dict[str, Field], schema: str) -> Row:
    """The body's values; 400 in Barbican's words."""
    if not isinstance(body, dict):
        raise ApiError(400, f"Provided object does not match schema '{schema}': an object is needed.")
    try:
        return parse(body, fields)
    except Problem as problem:
        raise ApiError(
            400, f"Provided object does not match schema '{schema}': {problem.value!r} is not valid"
            f"{': ' + problem.why if problem.why else ''}. Invalid property: '{problem.name}'",
        ) from problem  # fmt: skip


def _expiry(text: str | None) -> datetime | None:
    if text is None or not text.strip():
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise ApiError(400, "Provided object does not match schema 'Secret': Invalid date for 'expiration'. "
                            "Invalid property: 'expiration'") from error  # fmt: skip
    if moment <= now():
        raise ApiError(400, "Provided object does not match schema 'Secret': 'expiration' is before current time. "
                            "Invalid property: 'expiration'")  # fmt: skip
    return moment


def _content_type(given: str | None) -> str:
    if given is None:
        raise ApiError(400, "Provided object does not match schema 'Secret': If 'payload' is supplied, "
                            "'payload_content_type' must also be supplied. Invalid property: 'payload_content_type'",
        )  # fmt: skip
    kind, _, rest = (part.strip().lower() for part in given.partition(";"))
    if kind not in CONTENT_TYPES or (rest and (kind, rest.replace(" ", "")) != (TEXT, "charset=utf-8")):
        raise ApiError(400, f"Provided object does not match schema 'Secret': payload_content_type {given!r} is not one "
                            f"of {', '.join(CONTENT_TYPES)}. Invalid property: 'payload_content_type'")  # fmt: skip
    return kind


def _decoded(payload: str, kind: str, encoding: str | None) -> bytes:
    if (encoding is not None and encoding.lower() != "base64") or (kind == TEXT and encoding is not None):
        raise ApiError(400, "Provided object does not match schema 'Secret': payload_content_encoding is base64 for "
                            "binary payloads and absent for text. Invalid property: 'payload_content_encoding'")  # fmt: skip
    if kind == TEXT:
        return payload.encode()
    if encoding is None:
        raise ApiError(400, "Provided object does not match schema 'Secret': payload_content_encoding must be specified "
                            f"when payload_content_type is {kind}. Invalid property: 'payload_content_encoding'")  # fmt: skip
    return _unbase64(payload.encode())


def _unbase64(payload: bytes) -> bytes:
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "Provided object does not match schema 'Secret': Invalid payload for "
                            "payload_content_encoding. Invalid property: 'payload'") from error  # fmt: skip


def _sealed(call: Call, secret_id: str, payload: bytes) -> bytes:
    if not payload:
        raise ApiError(400, "Provided object does not match schema 'Secret': If 'payload' specified, must be non "
                            "empty. Invalid property: 'payload'")  # fmt: skip
    if len(payload) > PAYLOAD_MAX:
        raise ApiError(413, f"Provided information too large to process: a payload has at most {PAYLOAD_MAX} bytes")
    vault = Vault(call.settings.secret_keys)
    if not vault.ready:
        raise ApiError(503, "The key manager has no key to seal secrets with; start the cloud with --secret-key-file.")
    return vault.seal(secret_id, payload)


def view(call: Call, row: Row) -> Row:
    """The metadata, as the API shows it."""
    shown = {
        "secret_ref": reference(call, row["id"]), "name": row["name"] or None, "creator_id": row["creator_id"],
        "secret_type": row["secret_type"], "algorithm": row["algorithm"], "bit_length": row["bit_length"],
        "mode": row["mode"], "status": "ACTIVE", "created": row["created_at"], "updated": row["updated_at"],
        "expiration": row["expires_at"],
    }  # fmt: skip
    if row["content_type"] is not None:
        shown["content_types"] = {"default": row["content_type"]}
    return shown


def show(call: Call) -> Answer:
    """GET secrets/ID: the metadata; for a client that takes no JSON the payload, as old clients ask for it."""
    if negotiation.choose(call.headers.get("accept", ""), [negotiation.JSON]) is None:
        return payload(call)
    return Answer(body=view(call, access.find(call, t.secrets, write=False)))


def payload(call: Call) -> Answer:
    """GET secrets/ID/payload: the bytes as they were stored, under the type that the client asks for.

    As in Barbican binary types fit every payload, and text fits one that is UTF-8.
    """
    row = access.find(call, t.secrets, write=False)
    access.may_decrypt(call, row)
    if row["sealed"] is None:
        raise ApiError(404, "Not Found. Sorry but your secret has no payload.")
    raw = Vault(call.settings.secret_keys).open(row["id"], row["sealed"])
    offers = [row["content_type"], *((TEXT,) if _is_text(raw) else ()), *BINARIES]
    chosen = negotiation.choose(call.headers.get("accept", ""), offers)
    if chosen is None:
        raise ApiError(406, f"Not Acceptable: this payload is given as {', '.join(dict.fromkeys(offers))}")
    return Answer(200, raw, {"content-type": chosen})


def _is_text(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return False
    return True


def put_payload(call: Call) -> Answer:
    """PUT secrets/ID: the payload of a secret that was made without one."""
    row = access.find(call, t.secrets, write=True)
    if row["sealed"] is not None:
        raise ApiError(409, "Secret already has data, cannot modify it.")
    kind = _content_type(call.headers.get("content-type"))
    raw: bytes = call.body or b""
    encoding = call.headers.get("content-encoding", "").lower()
    if encoding not in {"", "base64"}:
        raise ApiError(400, f"Content-Encoding {encoding!r} is not supported: use base64 or none.")
    if encoding:
        raw = _unbase64(raw)
    values = {"content_type": kind, "sealed": _sealed(call, row["id"], raw), "updated_at": now()}
    call.tx.update(t.secrets, row["id"], values)
    return Answer(204)


def remove(call: Call) -> Answer:
    """DELETE secrets/ID."""
    row = access.find(call, t.secrets, write=True)
    call.tx.update(t.secrets, row["id"], {"deleted": True, "updated_at": now()})
    uses.purge(call.tx)
    return Answer(204)


def index(call: Call) -> Answer:
    """GET secrets: the project's, or those whose access list names the caller (`acl_only`), page by page."""
    own = access.project(call, write=False)
    wanted = lists.asked(call, *FILTERS, *TIMES, "sort", "acl_only")
    query = sa.select(t.secrets).where(~t.secrets.c.deleted)
    shared = wanted.get("acl_only", "").lower() == "true"
    query = query.where(t.secrets.c.acl.is_not(None) if shared else t.secrets.c.project_id == own)
    for name, column in FILTERS.items():
        if name in wanted:
            value: Any = lists.natural(wanted[name], 0) if name == "bits" else wanted[name]
            query = query.where(t.secrets.c[column] == value)
    rows = call.tx.all(query.order_by(t.secrets.c.created_at, t.secrets.c.id))
    rows = [row for row in rows if row["expires_at"] is None or row["expires_at"] > now()]
    if shared:
        rows = [row for row in rows if access.is_listed(call, row)]
    for name, column in TIMES.items():
        if name in wanted:
            fits = lists.between(wanted[name])
            rows = [row for row in rows if fits(row[column])]
    if "sort" in wanted:
        rows = lists.ordered(rows, wanted["sort"], SORTED)
    return lists.page(call, rows, "secrets", view)
