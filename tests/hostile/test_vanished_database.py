"""The database's machine hangs, vanishes without a word, and comes back: the cloud finds it again by itself."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.cloud import Cloud, postgresql, wait_for
from tests.support.ports import free_port

CALLERS = 16  # more than there are connections to the database
PORTS = "/network/v2.0/ports"


def nft(text: str) -> None:
    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def send(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def callers(cloud: Cloud) -> Iterator[None]:
    """Somebody asks all the time, so that every connection to the database is in use."""
    headers, ended = {"X-Auth-Token": cloud.token()}, threading.Event()

    def call() -> None:
        while not ended.is_set():
            with contextlib.suppress(OSError):
                cloud.request("GET", PORTS, None, headers, timeout_s=20)
            time.sleep(0.01)

    threads = [threading.Thread(target=call) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def test_a_database_that_hung_and_vanished_is_found_again(tmp_path: Path) -> None:
    port = free_port()
    with postgresql(port) as cluster:
        cloud = Cloud(tmp_path, cluster("vanished"))
        cloud.start()
        try:
            headers = {"X-Auth-Token": cloud.token()}
            with callers(cloud):
                time.sleep(1)
                processes = cluster.processes()
                send(processes, signal.SIGSTOP)
                time.sleep(2)  # what is asked now is waited for
                drop = f"tcp sport {port} drop\ntcp dport {port} drop"
                hook = "type filter hook input priority 0; policy accept;"
                nft(f"table inet vanished {{\nchain silence {{\n{hook}\n{drop}\n}}\n}}\n")
                send(processes, signal.SIGKILL)  # and no connection hears of it
                time.sleep(2)
                nft("delete table inet vanished")
                wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in processes))
                (cluster.directory / "data/postmaster.pid").unlink(missing_ok=True)
                cluster.start()

                def answers() -> bool:
                    with contextlib.suppress(OSError):
                        return cloud.request("GET", PORTS, None, headers, timeout_s=2)[0] == 200
                    return False

                wait_for(answers, 60)
        finally:
            cloud.stop()
