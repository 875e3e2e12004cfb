"""A `vrata provider` process behind a front of its own, which shows what it asks of the cloud."""

import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError

from tests.support.cloud import DEMO, Cloud
from tests.support.front import Front
from tests.support.ports import free_port

SUBNET = "11111111-1111-4111-8111-111111111111"  # any will do for a cloud without a network


class Replica:
    """A provider process behind a front of its own, which shows what it asks of the cloud."""

    def __init__(self, directory: Path, behind: Cloud, kubeconfig: Path, lease: str) -> None:
        directory.mkdir(exist_ok=True)
        self.front = Front(behind.url).start()
        self.log = directory / "log"
        conf = directory / "cloud.conf"
        conf.write_text(
            f"[Global]\nauth-url={self.front.url}/identity/v3\nusername=demo\npassword={DEMO}\ntenant-name=demo\n"
            f"domain-id=default\n[LoadBalancer]\ninternal-lb=true\nsubnet-id={SUBNET}\n"
        )
        self.port = free_port()
        argv = [sys.executable, "-c", "from vrata.cli.main import main; main()", "provider"]
        argv += ["--kubeconfig", str(kubeconfig), "--cloud-config", str(conf), "--lease", lease]
        argv += ["--lease-duration-s", "3", "--http-port", str(self.port)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(argv, stdout=log, stderr=log)

    def ask(self, path: str) -> tuple[int, str]:
        """GET of its own HTTP port; status 0 while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def leads(self) -> bool:
        """Whether it says so."""
        return "vrata_provider_leader 1.0" in self.ask("/metrics")[1]

    @property
    def writes(self) -> int:
        """Changes it has asked for; logging in is none."""
        return self.front.counted(lambda method, path: method != "GET" and not path.endswith("/auth/tokens"))

    def end(self) -> None:
        """Whatever it takes."""
        with suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()
        self.front.stop()
