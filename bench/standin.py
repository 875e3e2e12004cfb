"""A cloud that answers everything after a given time and carries no traffic: Keystone, Neutron and Octavia as far as a
cloud provider asks them. What is measured beside it is the provider, not a cloud.

Run as `python -m bench.standin`; it prints its port. `POST /bench?delay_ms=50` sets the time, `GET /bench` tells counts.
"""

import asyncio
import itertools
import socket
import uuid
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Json = dict[str, Any]
PAGE = 1000
NETWORK_ID, SUBNET_ID, EXTERNAL_ID, EXTERNAL_SUBNET_ID = (str(uuid.UUID(int=number)) for number in range(1, 5))
KINDS = ("loadbalancers", "listeners", "pools", "healthmonitors", "floatingips")


def answer(body: Json, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status, media_type="application/json")


class Table:
    """Rows by id, found by some of their columns without a walk."""

    def __init__(self, *columns: str) -> None:
        self.rows: dict[str, Json] = {}
        self.by: dict[str, dict[str, dict[str, None]]] = {column: defaultdict(dict) for column in columns}

    def put(self, row: Json) -> Json:
        self.rows[row["id"]] = row
        for column, index in self.by.items():
            index[str(row[column])][row["id"]] = None
        return row

    def drop(self, id_: str) -> None:
        row = self.rows.pop(id_)
        for column, index in self.by.items():
            index[str(row[column])].pop(id_, None)

    def find(self, filters: Json) -> list[Json]:
        for column in self.by:
            if column in filters:
                return [self.rows[id_] for id_ in self.by[column][filters[column]]]
        return list(self.rows.values())


class StandIn:
    """All state; nothing is ever busy."""

    def __init__(self) -> None:
        self.delay_s = 0.0
        self.port = 0
        self.calls: Counter[str] = Counter()
        self.tables = {
            "loadbalancers": Table("name"),
            "listeners": Table("loadbalancer_id"),
            "pools": Table("loadbalancer_id"),
            "healthmonitors": Table(),
            "floatingips": Table("port_id", "description", "floating_ip_address"),
        }
        self.members: dict[str, list[Json]] = {}
        self.addresses = itertools.count(1)

    async def bench(self, request: Request) -> Response:
        if request.method == "POST":
            self.delay_s = float(request.query_params["delay_ms"]) / 1000
            self.calls.clear()
        sizes = Counter(len(members) for members in self.members.values())
        counts = {kind: len(table.rows) for kind, table in self.tables.items()}
        return answer(
            {"calls": self.calls, "counts": counts, "pools_by_members": {str(k): n for k, n in sizes.items()}}
        )

    async def token(self, request: Request) -> Response:
        base = f"http://127.0.0.1:{self.port}"
        catalog = [
            {
                "type": type_,
                "name": type_,
                "id": type_,
                "endpoints": [
                    {"id": type_, "interface": "public", "region": "R", "region_id": "R", "url": base + path}
                ],
            }
            for type_, path in (("load-balancer", "/lb"), ("network", "/net"), ("identity", "/v3"))
        ]
        expires = (datetime.now(UTC) + timedelta(hours=6)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        token = {"catalog": catalog, "expires_at": expires, "issued_at": expires, "methods": ["password"],
                 "user": {"id": "u", "name": "u", "domain": {"id": "default", "name": "Default"}},
                 "project": {"id": "p", "name": "p", "domain": {"id": "default", "name": "Default"}},
                 "roles": []}  # fmt: skip
        response = answer({"token": token}, 201)
        response.headers["X-Subject-Token"] = "t"
        return response

    async def call(self, request: Request) -> Response:
        """Everything else: after the delay."""
        await asyncio.sleep(self.delay_s)
        self.calls["write" if request.method != "GET" else "read"] += 1
        path = request.path_params["path"].strip("/").split("/")
        kind, id_ = path[0], path[1] if len(path) > 1 else ""
        body = msgspec.json.decode(await request.body() or b"{}")
        match request.method, kind:
            case "GET", "networks":
                return answer({"networks": [{"id": EXTERNAL_ID, "name": "public"}]})
            case "GET", "subnets":
                return answer({"subnets": [{"id": EXTERNAL_SUBNET_ID, "name": "public", "tags": [], "ip_version": 4}]})
            case "GET", "ports":
                address = request.query_params["fixed_ips"].partition("=")[2]
                return answer({"ports": [{"id": "p", "fixed_ips": [{"ip_address": address, "subnet_id": SUBNET_ID}]}]})
            case "GET", "pools" if path[2:] == ["members"]:
                return answer({"members": self.members.get(id_, [])})
            case "PUT", "pools" if path[2:] == ["members"]:
                self._set_members(self.tables["pools"].rows[id_], body["members"])
                return answer({}, 202)
            case "GET", _ if id_:
                return self._one(kind, id_)
            case "GET", _:
                return self._list(kind, dict(request.query_params))
            case "POST", "loadbalancers":
                made = self._create(body["loadbalancer"])
                return answer({"loadbalancer": {**made, "provisioning_status": "PENDING_CREATE"}}, 201)
            case "POST", "floatingips":
                return answer({"floatingip": self._floating(body["floatingip"])}, 201)
            case "DELETE", _:
                self.tables[kind].drop(id_)
                return Response(status_code=204)
            case _:
                return answer({"faultstring": f"{request.method} {path} is not stood in for"}, 501)

    def _one(self, kind: str, id_: str) -> Response:
        row = self.tables[kind].rows.get(id_)
        return answer({kind.removesuffix("s"): row}) if row else answer({"faultstring": "not found"}, 404)

    def _list(self, kind: str, filters: dict[str, str]) -> Response:
        rows = self.tables[kind].find(filters)
        marker = filters.get("marker")
        if marker:
            ids = list(self.tables[kind].rows)  # only whole tables are longer than a page
            start = ids.index(marker) + 1
            rows = [self.tables[kind].rows[id_] for id_ in ids[start : start + PAGE]]
        page: Json = {kind: rows[:PAGE]}
        if len(page[kind]) == PAGE:
            page[f"{kind}_links"] = [{"rel": "next", "href": "next"}]
        return answer(page)

    def _create(self, body: Json) -> Json:
        id_, number = str(uuid.uuid4()), next(self.addresses)
        row = {
            "id": id_, "provisioning_status": "ACTIVE", "operating_status": "ONLINE", "provider": "stand-in",
            "vip_address": f"10.{128 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}",
            "vip_port_id": str(uuid.uuid4()), "vip_network_id": NETWORK_ID, "additional_vips": [],
            "flavor_id": None, "availability_zone": None, "admin_state_up": True, "project_id": "p",
            **{key: value for key, value in body.items() if key != "listeners"},
        }  # fmt: skip
        for listener in body.get("listeners", []):
            pool = listener.pop("default_pool")
            made = self._pool(id_, pool)
            self.tables["listeners"].put({
                "id": str(uuid.uuid4()), "loadbalancer_id": id_, "loadbalancers": [{"id": id_}],
                "default_pool_id": made["id"], "default_tls_container_ref": None, "insert_headers": {},
                "allowed_cidrs": None, "tags": [], **listener,
            })  # fmt: skip
        return self.tables["loadbalancers"].put(row)

    def _pool(self, balancer_id: str, body: Json) -> Json:
        members, monitor, id_ = body.pop("members", []), body.pop("healthmonitor", None), str(uuid.uuid4())
        row = {"id": id_, "loadbalancer_id": balancer_id, "loadbalancers": [{"id": balancer_id}],
               "session_persistence": None, "healthmonitor_id": None, **body}  # fmt: skip
        if monitor:
            row["healthmonitor_id"] = self.tables["healthmonitors"].put({"id": str(uuid.uuid4()), **monitor})["id"]
        self._set_members(row, members)
        return self.tables["pools"].put(row)

    def _set_members(self, pool: Json, members: list[Json]) -> None:
        kept = {(one["address"], one["protocol_port"]): one["id"] for one in self.members.get(pool["id"], ())}
        self.members[pool["id"]] = [
            {"monitor_port": None, **one, "id": kept.get((one["address"], one["protocol_port"])) or str(uuid.uuid4())}
            for one in members
        ]
        pool["members"] = [{"id": one["id"]} for one in self.members[pool["id"]]]
        pool["updated_at"] = datetime.now(UTC).isoformat()

    def _floating(self, body: Json) -> Json:
        number = next(self.addresses)
        address = f"100.{64 + number // 62500}.{number // 250 % 250}.{number % 250 + 1}"
        row = {"id": str(uuid.uuid4()), "floating_ip_address": address, "status": "ACTIVE", "description": "", **body}
        return self.tables["floatingips"].put(row)


def main() -> None:
    """Serve until killed."""
    state = StandIn()
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    state.port = listening.getsockname()[1]
    every = ["GET", "POST", "PUT", "DELETE"]

    async def version(request: Request) -> Response:
        links = [{"rel": "self", "href": f"http://127.0.0.1:{state.port}/v3/"}]
        return answer({"version": {"id": "v3.14", "status": "stable", "links": links}})

    routes = [
        Route("/bench", state.bench, methods=["GET", "POST"]),
        Route("/v3/auth/tokens", state.token, methods=["POST"]),
        Route("/v3", version),
        Route("/v3/", version),
        Route("/lb/", lambda _: answer({"versions": [{"id": "v2.27", "status": "CURRENT"}]})),
        Route("/lb/v2.0/lbaas/{path:path}", state.call, methods=every),
        Route("/net/v2.0/{path:path}", state.call, methods=every),
    ]
    print(state.port, flush=True)
    served = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="critical", access_log=False))
    asyncio.run(served.serve([listening]))


if __name__ == "__main__":
    main()
