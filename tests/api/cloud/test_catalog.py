"""The catalog may name a service that others serve."""

import subprocess
import sys
from pathlib import Path

from tests.support.cloud import Cloud

ELSEWHERE = "http://octavia.example:9876"


def test_a_service_of_others_stands_in_the_catalog_beside_ours(tmp_path: Path) -> None:
    cloud = Cloud(tmp_path, None, "--endpoint", f"load-balancer={ELSEWHERE}")
    cloud.start()
    try:
        headers = {"X-Auth-Token": cloud.token()}
        status, body, _ = cloud.request("GET", "/identity/v3/auth/catalog", headers=headers)
    finally:
        cloud.stop()

    assert status == 200
    found = {one["type"]: {endpoint["url"] for endpoint in one["endpoints"]} for one in body["catalog"]}
    assert found["load-balancer"] == {ELSEWHERE}
    assert found["network"] == {f"{cloud.url}/network"}


def test_an_endpoint_of_an_unknown_kind_is_refused_by_name(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "vrata", "cloud", "serve", "--data-dir", str(tmp_path), "--endpoint", "dns=http://x"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 2
    assert "'--endpoint': 'dns=http://x'" in done.stderr
