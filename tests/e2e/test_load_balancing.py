"""The load-balancer service by itself, whole: a certificate in the key manager, a TLS listener, policies, curl."""

from pathlib import Path
from typing import Any

import pytest
from tests.support.pki import issue

from vrata.sandbox.demo.manifests import echo_deployment, service
from vrata.sandbox.demo.stage import LBAAS, Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

NODE_PORT = 31443


async def test_a_tls_listener_serves_the_certificate_of_the_key_manager(stage: Stage, tmp_path: Path) -> None:
    authority = issue("authority", authority=True)
    leaf = issue("shop", "shop.example", by=authority)
    (tmp_path / "ca.pem").write_text(authority.cert_pem)
    ports = [{"name": "http", "port": 80, "targetPort": "http", "nodePort": NODE_PORT}]
    await stage.apply(echo_deployment("tls"), service("tls", "NodePort", ports=ports))
    async with stage.tenant() as cloud:

        async def made(service_type: str, path: str, kind: str, body: dict[str, Any]) -> Any:
            answer = await cloud.request("POST", service_type, path, body={kind: body} if kind else body)
            return answer[kind] if kind else answer

        async def secret(payload: str) -> str:
            body = {"payload": payload, "payload_content_type": "text/plain"}
            return str((await made("key-manager", "/v1/secrets", "", body))["secret_ref"])

        parts = [
            {"name": "certificate", "secret_ref": await secret(leaf.cert_pem)},
            {"name": "private_key", "secret_ref": await secret(leaf.key_pem)},
        ]
        container = {"name": "shop", "type": "certificate", "secret_refs": parts}
        ref = (await made("key-manager", "/v1/containers", "", container))["container_ref"]
        subnet = (await cloud.find("network", "/v2.0/subnets", "subnets", name="tenant"))[0]["id"]
        workers = stage.sandbox.layout.of_role("worker")
        pool = {
            "name": "web", "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN",
            "members": [{"address": worker.address, "protocol_port": NODE_PORT} for worker in workers],
        }  # fmt: skip
        old = {
            "action": "REDIRECT_PREFIX", "redirect_prefix": "https://new.example", "redirect_http_code": 301,
            "rules": [{"type": "PATH", "compare_type": "STARTS_WITH", "value": "/old"}],
        }  # fmt: skip
        listener = {
            "name": "https", "protocol": "TERMINATED_HTTPS", "protocol_port": 443, "default_tls_container_ref": ref,
            "default_pool": pool, "l7policies": [old], "insert_headers": {"X-Forwarded-Proto": "true"},
        }  # fmt: skip
        balancer = await made(
            "load-balancer", f"{LBAAS}/loadbalancers", "loadbalancer",
            {"name": "tls", "vip_subnet_id": subnet, "listeners": [listener]},
        )  # fmt: skip
        where = ("--cacert", str(tmp_path / "ca.pem"), "--resolve", f"shop.example:443:{balancer['vip_address']}")
        body = await stage.until_answers("master-0", "https://shop.example/hello", *where)
        assert '"X-Forwarded-Proto": ["https"]' in body or '"X-Forwarded-Proto":["https"]' in body
        status, told = await stage.curl("master-0", "https://shop.example/old/x", *where, "-i")
        assert status == 301
        assert "location: https://new.example/old/x" in told.lower()
        status, _ = await stage.curl("master-0", "https://shop.example/", *where[2:])
        assert status == 0, "nobody trusts the authority without being told to"
        await cloud.request(
            "DELETE", "load-balancer", f"{LBAAS}/loadbalancers/{balancer['id']}", params={"cascade": "true"}
        )
