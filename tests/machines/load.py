"""Web servers in the machines' provider network, and new connections to them, one after another."""

import contextlib
import http.server
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

WEB = ("203.0.113.51", "203.0.113.52")
WAIT_S = 180.0


def wait_for(what: Callable[[], object], message: str) -> None:
    """AssertionError if it is never true."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, f"never: {message}"
        time.sleep(0.2)


@contextlib.contextmanager
def web_servers() -> Iterator[None]:
    """Two servers in the provider network."""

    class Answer(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = f"{self.connection.getsockname()[0]}\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_words: object) -> None:
            """A health check, or a balancer that ends, closes when it likes."""

    servers = []
    for address in WEB:
        subprocess.run(["ip", "address", "add", f"{address}/24", "dev", "br-prov"], check=True)
        servers.append(Quiet((address, 80), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    try:
        yield
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


@dataclass
class Load:
    """New connections, one after another, from a thread: how many, and how many failed once and twice in a row."""

    url: str
    options: tuple[str, ...] = ()
    seen: int = 0
    failed: int = 0
    failed_again: int = 0
    last: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def get(self) -> bool:
        """One request over a connection of its own: whether it was answered."""
        done = subprocess.run(
            ["curl", "--silent", "--show-error", "--fail", "--max-time", "5", *self.options, self.url],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            self.last = [*self.last[-5:], f"{time.strftime('%H:%M:%S')} {done.stderr.strip()}"]
        return done.returncode == 0

    def _run(self) -> None:
        while not self._stop.wait(0.05):
            self.seen += 1
            if not self.get():
                self.failed += 1
                self.failed_again += not self.get()

    def __enter__(self) -> "Load":
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_words: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()
        print(
            f"       {self.url}: {self.seen} connections, {self.failed} failed, {self.failed_again} again {self.last}",
            flush=True,
        )
