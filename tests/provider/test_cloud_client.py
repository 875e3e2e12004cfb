"""The provider's client against our own cloud over real HTTPS: trust, logins, refusals for load, lost answers, bounds."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cloud import ADMIN, DEMO, Cloud
from tests.support.front import Front, Spoil, server_tls
from tests.support.pki import Identity, issue

from vrata.base.errors import InvalidInput, VrataError
from vrata.provider import cloud as client
from vrata.provider import session
from vrata.provider.cloud import CloudError
from vrata.provider.conf import parse_conf

NETWORKS, BALANCERS = "/v2.0/networks", "/v2.0/lbaas/loadbalancers"


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    running = Cloud(tmp_path_factory.mktemp("cloud"), None, "--noop")
    running.start()
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def authority() -> Identity:
    return issue("authority", authority=True)


@pytest.fixture(params=[False, True], ids=["server-certificate", "client-certificate"])
def asks_client(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def front(behind: Cloud, authority: Identity, tmp_path: Path, asks_client: bool) -> Iterator[Front]:
    leaf = issue("localhost", "localhost", by=authority)
    tls = server_tls(tmp_path, authority, leaf, ask_client=asks_client)
    (tmp_path / "client.pem").write_text((one := issue("client", by=authority)).cert_pem)
    (tmp_path / "client.key").write_text(one.key_pem)
    running = Front(behind.url, tls).start()
    yield running
    running.stop()


@pytest.fixture
def conf(front: Front, tmp_path: Path, asks_client: bool) -> str:
    """A cloud.conf for demo behind the front."""
    text = f"[Global]\nauth-url={front.url}/identity/v3\nusername=demo\npassword={DEMO}\ntenant-name=demo\n"
    text += f"domain-id=default\nregion=RegionOne\nos-endpoint-type=public\nca-file={tmp_path}/ca.pem\n"
    if asks_client:
        text += f"cert-file={tmp_path}/client.pem\nkey-file={tmp_path}/client.key\n"
    return text


def cloud_of(conf: str) -> client.Cloud:
    return client.Cloud(login=parse_conf(conf).login)


def sample(cloud: client.Cloud, name: str, request: str) -> float:
    return cloud.metrics.registry.get_sample_value(name, {"request": request}) or 0.0


async def test_cloud_conf_reaches_a_cloud_behind_its_own_authority(conf: str, front: Front) -> None:
    async with cloud_of(conf) as cloud:
        assert await cloud.find("load-balancer", BALANCERS, "loadbalancers") == []

        assert front.counted(lambda method, path: path.endswith("/auth/tokens")) == 1
        assert sample(cloud, "openstack_api_requests_total", "loadbalancer_list") == 1
        assert sample(cloud, "openstack_api_request_errors_total", "loadbalancer_list") == 0


@pytest.mark.parametrize("asks_client", [False], indirect=True)
class TestOneFront:
    """What does not depend on who shows certificates."""

    async def test_unknown_authority_is_refused(self, conf: str, authority: Identity) -> None:
        _ = authority
        lines = [line for line in conf.splitlines() if not line.startswith("ca-file")]
        async with cloud_of("\n".join(lines)) as cloud:
            with pytest.raises(CloudError, match=r"(?i)certificate"):
                await cloud.find("network", NETWORKS, "networks")

    @pytest.mark.parametrize("slow", ["_configure", "_tls", "_renew", "_find"])
    async def test_a_login_cancelled_at_any_step_leaves_a_good_one_to_the_next_call(
        self, conf: str, monkeypatch: pytest.MonkeyPatch, slow: str
    ) -> None:
        """The thread of a cancelled call goes on; the next call met a session without its TLS."""
        holder: Any = session if slow == "_tls" else session.Session
        original = getattr(holder, slow)
        entered = threading.Event()

        def delayed(*arguments: Any) -> Any:
            if not entered.is_set():
                entered.set()
                time.sleep(0.5)
            return original(*arguments)

        monkeypatch.setattr(holder, slow, delayed)
        async with cloud_of(conf) as cloud:
            first = asyncio.create_task(cloud.connect("network"))
            await asyncio.to_thread(entered.wait)
            first.cancel()
            await asyncio.wait({first})
            assert await cloud.find("network", NETWORKS, "networks") == []

    async def test_a_wrong_ca_file_is_named_each_time(self, conf: str) -> None:
        async with cloud_of(conf.replace("ca.pem", "nothing.pem")) as cloud:
            for _ in range(2):
                with pytest.raises(InvalidInput, match=r"nothing\.pem"):
                    await cloud.find("network", NETWORKS, "networks")

    async def test_tls_insecure_is_taken_at_its_word(self, conf: str) -> None:
        lines = [line for line in conf.splitlines() if not line.startswith("ca-file")]
        async with cloud_of("\n".join([*lines, "tls-insecure=true"])) as cloud:
            await cloud.find("network", NETWORKS, "networks")

    async def test_missing_ca_file_is_named(self, conf: str, tmp_path: Path) -> None:
        async with cloud_of(conf.replace("ca.pem", "none.pem")) as cloud:
            with pytest.raises(InvalidInput, match=str(tmp_path / "none.pem")):
                await cloud.find("network", NETWORKS, "networks")

    async def test_application_credential_is_enough(self, conf: str, behind: Cloud) -> None:
        headers = {"X-Auth-Token": (token := behind.token("demo"))}
        _, known, _ = behind.request("GET", "/identity/v3/auth/tokens", headers=headers | {"X-Subject-Token": token})
        path = f"/identity/v3/users/{known['token']['user']['id']}/application_credentials"
        status, body, _ = behind.request("POST", path, {"application_credential": {"name": "provider"}}, headers)
        assert status == 201, body
        made = body["application_credential"]
        kept = [line for line in conf.splitlines() if line.split("=")[0] in ("[Global]", "auth-url", "ca-file")]
        credential = [f"application-credential-id={made['id']}", f"application-credential-secret={made['secret']}"]
        async with cloud_of("\n".join(kept + credential)) as cloud:
            await cloud.find("network", NETWORKS, "networks")

    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    async def test_no_change_is_sent_once_another_may_be_at_work(self, conf: str, front: Front, method: str) -> None:
        body = {"network": {"name": "n"}} if method == "POST" else None
        async with client.Cloud(login=parse_conf(conf).login, guard=lambda: False) as cloud:
            with pytest.raises(VrataError, match="not sent"):
                await cloud.request(method, "network", NETWORKS, body=body)
            await cloud.find("network", NETWORKS, "networks")
        assert front.counted(lambda seen, path: seen == method and path.endswith(NETWORKS)) == 0

    async def test_wrong_password_is_the_clouds_sentence(self, conf: str) -> None:
        async with cloud_of(conf.replace(DEMO, ADMIN)) as cloud:
            with pytest.raises(CloudError, match="Keystone") as refused:
                await cloud.find("network", NETWORKS, "networks")
            assert refused.value.status == 401

    async def test_region_that_the_catalog_lacks_is_named(self, conf: str) -> None:
        async with cloud_of(conf.replace("RegionOne", "Elsewhere")) as cloud:
            with pytest.raises(CloudError, match="Elsewhere"):
                await cloud.find("network", NETWORKS, "networks")

    @pytest.mark.parametrize("status", [429, 503])
    async def test_refused_for_load_is_sent_again_when_asked(self, conf: str, front: Front, status: int) -> None:
        front.spoils.append(Spoil("POST", "/networks", status, {"Retry-After": "1"}, times=2))
        async with cloud_of(conf) as cloud:
            loop = asyncio.get_running_loop()
            begun_s = loop.time()
            made = await cloud.request("POST", "network", NETWORKS, body={"network": {"name": "late"}})

            assert loop.time() - begun_s >= 2.0
            assert made["network"]["name"] == "late"
            assert front.counted(lambda method, path: method == "POST" and path.endswith("/networks")) == 3
            assert sample(cloud, "openstack_api_request_errors_total", "network_create") == 2
            await cloud.request("DELETE", "network", f"{NETWORKS}/{made['network']['id']}")

    async def test_one_asked_to_wait_holds_all_back(self, conf: str, front: Front) -> None:
        async with cloud_of(conf) as cloud:
            await cloud.connect("network")
            front.spoils.append(Spoil("GET", "/subnets", 429, {"Retry-After": "1"}))
            begun_s = asyncio.get_running_loop().time()
            first = asyncio.ensure_future(cloud.find("network", "/v2.0/subnets", "subnets"))
            while not front.counted(lambda _, path: path.endswith("/subnets")):
                await asyncio.sleep(0.01)
            while not sample(cloud, "openstack_api_request_errors_total", "subnet_list"):
                await asyncio.sleep(0.01)
            await cloud.find("network", NETWORKS, "networks")

            assert asyncio.get_running_loop().time() - begun_s >= 1.0
            await first

    async def test_a_long_wait_is_the_callers(self, conf: str, front: Front) -> None:
        front.spoils.append(Spoil("GET", "/networks", 503, {"Retry-After": "3600"}))
        async with cloud_of(conf) as cloud:
            with pytest.raises(CloudError) as refused:
                await cloud.find("network", NETWORKS, "networks")

            assert refused.value.retry_after_s == 3600.0

    async def test_lost_answer_to_a_read_is_asked_again(self, conf: str, front: Front) -> None:
        front.spoils.append(Spoil("GET", "/networks", after=True))
        async with cloud_of(conf) as cloud:
            await cloud.find("network", NETWORKS, "networks")

    async def test_lost_answer_to_a_create_is_not(self, conf: str, front: Front) -> None:
        front.spoils.append(Spoil("POST", "/networks", after=True))
        async with cloud_of(conf) as cloud:
            with pytest.raises(CloudError, match="no answer from network"):
                await cloud.request("POST", "network", NETWORKS, body={"network": {"name": "lost"}})
            found = await cloud.find("network", NETWORKS, "networks", name="lost")

            assert len(found) == 1
            await cloud.request("DELETE", "network", f"{NETWORKS}/{found[0]['id']}")

    async def test_calls_in_flight_are_bounded(self, conf: str, front: Front) -> None:
        front.slow_s = 0.1
        async with cloud_of(conf) as cloud:
            await cloud.connect("network")
            calls = [cloud.find("network", NETWORKS, "networks") for _ in range(3 * client.IN_FLIGHT_MAX)]
            await asyncio.gather(*calls)

        assert 1 < front.most_at_once <= client.IN_FLIGHT_MAX

    async def test_token_is_renewed_once_for_all(self, conf: str, front: Front, behind: Cloud) -> None:
        async with cloud_of(conf) as cloud:
            await cloud.connect("network")
            access = await cloud._session.access("network")
            headers = {"X-Auth-Token": behind.token("admin"), "X-Subject-Token": access.token}
            assert behind.request("DELETE", "/identity/v3/auth/tokens", headers=headers)[0] == 204
            await asyncio.gather(*(cloud.find("network", NETWORKS, "networks") for _ in range(5)))

        assert front.counted(lambda method, path: method == "POST" and path.endswith("/auth/tokens")) == 2


async def test_token_is_renewed_before_it_ends(tmp_path: Path) -> None:
    behind = Cloud(tmp_path, None, "--noop", "--token-life-s", "2")
    behind.start()
    front = Front(behind.url).start()
    conf = f"[Global]\nauth-url={front.url}/identity/v3\nusername=demo\npassword={DEMO}\ntenant-name=demo\n"
    try:
        async with cloud_of(conf + "domain-id=default\n") as cloud:
            async with asyncio.timeout(90):
                while front.counted(lambda method, path: method == "POST" and path.endswith("/auth/tokens")) < 3:
                    await cloud.find("network", NETWORKS, "networks")
                    await asyncio.sleep(0.02)

            assert sample(cloud, "openstack_api_requests_total", "network_list") > 3
            assert sample(cloud, "openstack_api_request_errors_total", "network_list") == 0
    finally:
        front.stop()
        assert behind.stop() == 0
