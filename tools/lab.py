"""What the tools share: environments of their own for foreign programs, and a cloud of ours for these to talk to.

Usage: python tools/lab.py NAME [NAME ...]    installs the environments build/NAME
"""

import contextlib
import hashlib
import os
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_S = 600  # one that ends is noticed at once; this is for a machine with much else to do


def install(name: str) -> Path:
    """The environment build/NAME from tools/NAME.lock; a second run finds it there."""
    venv, lock = ROOT / "build" / name, ROOT / "tools" / f"{name}.lock"
    stamp, digest = venv / ".lock.sha256", hashlib.sha256(lock.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"{name}: installing", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", venv], check=True)
        pip = [sys.executable, "-m", "pip", "--python", venv / "bin/python", "install", "-qq", "--require-hashes"]
        subprocess.run([*pip, "--disable-pip-version-check", "--no-deps", "-r", lock], check=True)
        stamp.write_text(digest)
    return venv


@contextlib.contextmanager
def cloud(directory: Path, password: str, *options: str) -> Iterator[str]:
    """A running `vrata cloud` with one password for admin and demo; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    (directory / "password").write_text(password)
    # The cheapest hashes: the suites make users and log in by the hundred.
    argv = [sys.executable, "-m", "vrata", "cloud", "serve", *options, "--data-dir", directory, "--password-cost", "4"]
    argv += ["--admin-password-file", directory / "password", "--demo-password-file", directory / "password"]
    argv += ["--listen-fd", str(listener.fileno())]
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with running(argv, directory / "cloud.log", f"{url}/healthcheck", fd=listener.fileno()):
        yield url
    listener.close()


@contextlib.contextmanager
def running(
    argv: list[str | Path],
    log: Path,
    url: str,
    *,
    fd: int | None = None,
    env: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[None]:
    """A program until its address answers and then for as long as the block lasts; SystemExit with its log if it ends."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            argv, pass_fds=[] if fd is None else [fd], stdout=out, stderr=out, env=os.environ | (env or {})
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=START_S, context=tls):
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{argv[:4]} did not start:\n{log.read_text()[-4000:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(60)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        install(wanted)
