"""What users attach to secrets and containers (Barbican v1): a secret's metadata and consumers, a container's secrets."""

from typing import Any

from vrata.base import ids
from vrata.cloud.fields import Field
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.keymanager import access, containers, lists, secrets
from vrata.cloud.keymanager import tables as t
from vrata.cloud.store import Row

METADATA_MAX = 100  # pairs of one secret
CONSUMERS_MAX = 1000  # of one secret
PAIR = {"key": Field(required=True), "value": Field(required=True)}
CONSUMER = {name: Field(required=True) for name in ("service", "resource_type", "resource_id")}
PART = {"name": Field(default=""), "secret_ref": Field(required=True)}


def _metadata(call: Call, *, write: bool) -> tuple[Row, dict[str, str]]:
    row = access.find(call, t.secrets, write=write)
    return row, dict(row["metadata"] or {})


def _keep(call: Call, row: Row, metadata: dict[str, str]) -> None:
    if len(metadata) > METADATA_MAX:
        raise ApiError(400, f"A secret has at most {METADATA_MAX} pairs of metadata.")
    call.tx.update(t.secrets, row["id"], {"metadata": metadata, "updated_at": now()})


def _pair(body: Any) -> tuple[str, str]:
    values = secrets.checked(body, PAIR, "SecretMetadatum")
    return values["key"].lower(), values["value"]


def show_metadata(call: Call) -> Answer:
    """GET secrets/ID/metadata."""
    return Answer(body={"metadata": _metadata(call, write=False)[1]})


def set_metadata(call: Call) -> Answer:
    """PUT secrets/ID/metadata: all of it anew."""
    row, _ = _metadata(call, write=True)
    given = call.body.get("metadata") if isinstance(call.body, dict) else None
    if not isinstance(given, dict):
        raise ApiError(400, "Provided object does not match schema 'SecretMetadata': metadata is an object of texts. "
                            "Invalid property: 'metadata'")  # fmt: skip
    _keep(call, row, dict(_pair({"key": key, "value": value}) for key, value in given.items()))
    return Answer(201, {"metadata_ref": f"{secrets.reference(call, row['id'])}/metadata"})


def add_metadata(call: Call) -> Answer:
    """POST secrets/ID/metadata: one pair more; 409 for a key that is there."""
    row, metadata = _metadata(call, write=True)
    key, value = _pair(call.body)
    if key in metadata:
        raise ApiError(409, "Conflict. Key in request is already in the secret metadata")
    _keep(call, row, metadata | {key: value})
    where = {"location": f"{secrets.reference(call, row['id'])}/metadata/{key}"}
    return Answer(201, {"key": key, "value": value}, where)


def one_of_metadata(call: Call) -> Answer:
    """GET, PUT, DELETE secrets/ID/metadata/KEY."""
    row, metadata = _metadata(call, write=call.method != "GET")
    key = call.path["key"]
    if key not in metadata:
        raise ApiError(404, "Secret metadata not found.")
    match call.method:
        case "PUT":
            given, metadata[key] = _pair(call.body)
            if given != key:
                raise ApiError(409, "Key in request does not match key in the request url.")
            _keep(call, row, metadata)
        case "DELETE":
            _keep(call, row, {name: value for name, value in metadata.items() if name != key})
            return Answer(204)
    return Answer(body={"key": key, "value": metadata[key]})


def _same(one: Row, values: Row) -> bool:
    return all(one[name] == values[name] for name in CONSUMER)


def list_consumers(call: Call) -> Answer:
    """GET secrets/ID/consumers."""
    lists.asked(call)
    rows = access.find(call, t.secrets, write=False)["consumers"] or []
    return lists.page(call, rows, "consumers", lambda _call, row: row)


def add_consumer(call: Call) -> Answer:
    """POST secrets/ID/consumers: registering twice is the same as once."""
    row = access.find(call, t.secrets, write=True)
    values, have = secrets.checked(call.body, CONSUMER, "Secret Consumer"), list(row["consumers"] or ())
    if not any(_same(one, values) for one in have):
        if len(have) == CONSUMERS_MAX:
            raise ApiError(403, f"Quota has been reached: a secret has at most {CONSUMERS_MAX} consumers.")
        moment = now().isoformat()
        have.append({"id": ids.new_uuid(), **values, "status": "ACTIVE", "created": moment, "updated": moment})
        call.tx.update(t.secrets, row["id"], {"consumers": have})
    return Answer(200, secrets.view(call, row), {"location": f"{secrets.reference(call, row['id'])}/consumers"})


def drop_consumer(call: Call) -> Answer:
    """DELETE secrets/ID/consumers, the consumer in the body."""
    row = access.find(call, t.secrets, write=True)
    values, have = secrets.checked(call.body, CONSUMER, "Secret Consumer"), list(row["consumers"] or ())
    kept = [one for one in have if not _same(one, values)]
    if len(kept) == len(have):
        raise ApiError(404, "Consumer not found.")
    call.tx.update(t.secrets, row["id"], {"consumers": kept})
    return Answer(200, secrets.view(call, row))


def show_consumer(call: Call) -> Answer:
    """GET secrets/ID/consumers/ID."""
    rows = access.find(call, t.secrets, write=False)["consumers"] or []
    found = next((one for one in rows if one["id"] == call.path["consumer"]), None)
    if found is None:
        raise ApiError(404, "Consumer not found.")
    return Answer(body=found)


def _part(call: Call) -> tuple[Row, dict[str, str], str, str]:
    """The container, its secrets, and the name and id in the body; 400 unless it is a generic one."""
    row = access.find(call, t.containers, write=True)
    if row["type"] != "generic":
        raise ApiError(400, "Only 'generic' containers can be modified.")
    values = secrets.checked(call.body, PART, "ContainerSecret")
    return row, dict(row["secrets"]), values["name"], containers.secret_id(call, values["secret_ref"])


def _hold(call: Call, row: Row, parts: dict[str, str]) -> None:
    if len(parts) > containers.PARTS_MAX:
        raise ApiError(400, f"A container has at most {containers.PARTS_MAX} secrets.")
    call.tx.update(t.containers, row["id"], {"secrets": parts, "updated_at": now()})


def add_secret(call: Call) -> Answer:
    """POST containers/ID/secrets; 409 for a name that is taken."""
    row, parts, name, secret_id = _part(call)
    if name in parts:
        raise ApiError(409, "Conflict. A secret with that name is already stored in this container.")
    _hold(call, row, parts | {name: secret_id})
    ref = containers.reference(call, row["id"])
    return Answer(201, {"container_ref": ref}, {"location": ref})


def drop_secret(call: Call) -> Answer:
    """DELETE containers/ID/secrets, the secret in the body."""
    row, parts, name, secret_id = _part(call)
    if parts.get(name) != secret_id:
        raise ApiError(404, "Secret provided is not in the container")
    _hold(call, row, {one: held for one, held in parts.items() if one != name})
    return Answer(204)
