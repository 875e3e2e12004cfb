"""schemathesis goes along the API's own OpenAPI description: no call answers 500, and nothing undescribed comes back."""

from types import SimpleNamespace
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.core.result import Ok
from tests.support.cloud import Cloud, wait_for

from vrata.cloud.balancing.api import BODIES, ENDPOINTS

EXAMPLES = 25


def test_no_call_answers_500_or_what_is_not_described(cloud: Cloud, world: SimpleNamespace) -> None:
    _ = world
    status, body, _ = cloud.request("GET", "/load-balancer/openapi.json")
    assert status == 200
    schema = schemathesis.openapi.from_dict(body)
    schema.config.update(base_url=cloud.url)
    headers = {"X-Auth-Token": cloud.token("admin")}
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def probe(case: Any) -> None:
            answer = case.call(headers=headers)
            assert answer.status_code < 500 or answer.status_code == 501, answer.text
            described = case.operation.definition.raw["responses"]
            assert answer.status_code in {405, 406, 413} or str(answer.status_code) in described
            if answer.status_code >= 400:
                assert answer.json()["faultstring"]

        probe()
        tried += 1
    assert tried == len(ENDPOINTS)


def test_the_description_has_every_endpoint_and_body(cloud: Cloud) -> None:
    paths = cloud.request("GET", "/load-balancer/openapi.json")[1]["paths"]
    for endpoint in ENDPOINTS:
        operation = paths[f"/load-balancer/v2.0/lbaas{endpoint.path}"][endpoint.method.lower()]
        last = endpoint.path.strip("/").split("/")[0]
        if endpoint.method == "POST" and endpoint.path.strip("/") in BODIES:
            name, fields = BODIES[last]
            shown = operation["requestBody"]["content"]["application/json"]["schema"]["properties"][name]["properties"]
            assert shown.keys() == {field for field, how in fields.items() if how.create}


def test_after_all_that_the_cloud_still_answers(cloud: Cloud) -> None:
    token = {"X-Auth-Token": cloud.token()}
    wait_for(lambda: cloud.request("GET", "/load-balancer/v2.0/lbaas/loadbalancers", None, token)[0] == 200)
