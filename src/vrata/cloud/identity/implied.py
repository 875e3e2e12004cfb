"""Which role implies which (Keystone v3, «Roles», «Implied roles»).

What the cloud itself stands on (admin → member → reader) can not be taken away; nothing may imply admin.
"""

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.identity import lists
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.bootstrap import IMPLIED
from vrata.cloud.identity.resources import admin, found
from vrata.cloud.store import Row


def _role(call: Call, name: str) -> Row:
    return found(call.tx.get(t.roles, call.path[name]), "role", call.path[name])


def _ref(call: Call, role: Row) -> Row:
    return {
        "id": role["id"], "name": role["name"], "description": role["description"], "domain_id": role["domain_id"],
        "links": {"self": f"{call.base_url}/identity/v3/roles/{role['id']}"},
    }  # fmt: skip


def _implied_by(call: Call, prior: Row) -> list[Row]:
    edges = t.implied_roles
    query = (
        sa.select(t.roles)
        .join(edges, edges.c.implied_id == t.roles.c.id)
        .where(edges.c.prior_id == prior["id"])
        .order_by(t.roles.c.name)
    )
    return [_ref(call, role) for role in call.tx.all(query)]


def _list(call: Call) -> Answer:
    lists.kept(call, [], ())
    admin(call, "identity:list_implied_roles")
    prior = _role(call, "prior")
    inference = {"prior_role": _ref(call, prior), "implies": _implied_by(call, prior)}
    return Answer(body={"role_inference": inference, "links": {"self": call.url}})


def _all(call: Call) -> Answer:
    lists.kept(call, [], ())
    admin(call, "identity:list_role_inference_rules")
    rules = [
        {"prior_role": _ref(call, prior), "implies": implies}
        for prior in call.tx.all(sa.select(t.roles).order_by(t.roles.c.name))
        if (implies := _implied_by(call, prior))
    ]
    return Answer(body={"role_inferences": rules, "links": {"self": call.url}})


def _one(call: Call) -> Answer:
    admin(call, "identity:manage_implied_role")
    prior, implied = _role(call, "prior"), _role(call, "implied")
    edges = t.implied_roles
    here = [edges.c.prior_id == prior["id"], edges.c.implied_id == implied["id"]]
    there = call.tx.value(sa.select(sa.literal(1)).select_from(edges).where(*here)) is not None
    match call.method:
        case "PUT":
            if implied["name"] == "admin" or implied["id"] == prior["id"]:
                raise ApiError(403, f"{implied['id']} cannot be an implied roles.")
            if not there:
                call.tx.insert(edges, {"prior_id": prior["id"], "implied_id": implied["id"]})
        case _ if not there:
            raise ApiError(404, f"{prior['id']} does not imply {implied['id']}.")
        case "DELETE":
            if (prior["name"], implied["name"]) in IMPLIED:
                raise ApiError(
                    403, f"The role {prior['name']} implies {implied['name']} in every project of this cloud: that cannot "
                    "be taken away.",
                )  # fmt: skip
            call.tx.execute(sa.delete(edges).where(*here))
            return Answer(204)
    inference = {"prior_role": _ref(call, prior), "implies": _ref(call, implied)}
    return Answer(201 if call.method == "PUT" else 200, {"role_inference": inference, "links": {"self": call.url}})


_IMPLIES = "/v3/roles/{prior}/implies"

ENDPOINTS = [
    Endpoint("GET", "/v3/role_inferences", _all),
    Endpoint("GET", _IMPLIES, _list),
    Endpoint("GET", _IMPLIES + "/{implied}", _one),
    Endpoint("PUT", _IMPLIES + "/{implied}", _one, write=True),
    Endpoint("DELETE", _IMPLIES + "/{implied}", _one, write=True),
]
