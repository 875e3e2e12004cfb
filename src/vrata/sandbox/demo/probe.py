"""A client that counts: requests sent and failed, and the longest time in which none succeeded.

Run inside a machine as `python -m vrata.sandbox.demo.probe`; imports little, retries nothing. Workers connect anew for
each request or keep their connection. SIGTERM, or the time given, ends it; then one line of JSON goes to stdout.
"""

import argparse
import http.client
import itertools
import json
import signal
import socket
import sys
import threading
import time
from collections import Counter


class Tally:
    """Shared by all workers."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.sent = 0
        self.failures: Counter[str] = Counter()
        self.successes: list[float] = []  # when each good answer was complete, monotonic seconds

    def add(self, failure: str | None) -> None:
        """Count one request."""
        with self.lock:
            self.sent += 1
            if failure:
                self.failures[failure] += 1
            else:
                self.successes.append(time.monotonic())

    def report(self) -> dict[str, object]:
        """The result: counts, and the longest gap between two good answers in milliseconds."""
        times = sorted(self.successes)
        gaps = [(later - earlier) * 1000 for earlier, later in itertools.pairwise(times)]
        return {
            "sent": self.sent,
            "failed": sum(self.failures.values()),
            "failures": dict(self.failures),
            "longest_gap_ms": round(max(gaps, default=float(0)), 1),
        }


def work(options: argparse.Namespace, tally: Tally, stop: threading.Event, *, keep: bool) -> None:
    """Send requests one after the other until told to stop."""
    connection: http.client.HTTPConnection | None = None
    headers = {"Host": options.host_header} if options.host_header else {}
    while not stop.is_set():
        begun = time.monotonic()
        failure = None
        try:
            if connection is None:
                connection = http.client.HTTPConnection(
                    options.address, options.port, timeout=options.timeout_ms / 1000
                )
            connection.request("GET", options.path, headers=headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                failure = f"status {answer.status}"
            if not keep or answer.will_close:
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            failure = type(error).__name__
            if connection is not None:
                connection.close()
            connection = None
        tally.add(failure)
        stop.wait(max(0.0, options.interval_ms / 1000 - (time.monotonic() - begun)))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Count requests, failures and the longest gap.")
    parser.add_argument("address")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--path", default="/")
    parser.add_argument("--host-header", default="")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--interval-ms", type=float, default=4.0)
    parser.add_argument("--timeout-ms", type=float, default=50.0)
    parser.add_argument("--fresh", type=int, default=1, help="workers that open a connection for each request")
    parser.add_argument("--keep-alive", type=int, default=0, help="workers that keep their connection")
    options = parser.parse_args()
    stop, tally = threading.Event(), Tally()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    socket.setdefaulttimeout(options.timeout_ms / 1000)
    kinds = [False] * options.fresh + [True] * options.keep_alive
    threads = [threading.Thread(target=work, args=(options, tally, stop), kwargs={"keep": keep}) for keep in kinds]
    for thread in threads:
        thread.start()
    stop.wait(options.seconds)
    stop.set()
    for thread in threads:
        thread.join()
    json.dump(tally.report(), sys.stdout)


if __name__ == "__main__":
    main()
