"""`tools/isolated`: what runs in it is on a machine of its own, and a run that is ended leaves nothing behind."""

import signal
import subprocess
import uuid
from pathlib import Path

import pytest
from tests.support.cloud import wait_for

ISOLATED = str(Path(__file__).parents[3] / "tools/isolated")


def named(mark: str) -> list[str]:
    """Processes with the mark in their command line."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes()
        except OSError:
            continue
        if mark.encode() in words:
            found.append(words.replace(b"\0", b" ").decode())
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process_namespace_or_file(number: signal.Signals) -> None:
    mark = f"left-{uuid.uuid4().hex}"
    daemon = f"setsid bash -c 'while :; do sleep 60; done' {mark} >/dev/null 2>&1 &"
    script = f"ip netns add {mark[:20]} && touch /tmp/{mark} && {daemon} echo ready; wait"
    process = subprocess.Popen([ISOLATED, "bash", "-c", script], stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == b"ready\n"
    assert len(named(mark)) > 1
    process.send_signal(number)
    assert process.wait(60) == (-number if number is signal.SIGKILL else 128 + number)
    wait_for(lambda: not named(mark))
    assert not Path("/run/netns", mark[:20]).exists()
    assert not Path("/tmp", mark).exists()  # noqa: S108 - the test is about that directory
    process.stdout.close()


def test_streams_and_status_are_the_commands() -> None:
    done = subprocess.run([ISOLATED, "bash", "-c", "cat; exit 7"], input=b"words", capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"words", b"")


def test_nothing_but_loopback_is_there() -> None:
    done = subprocess.run([ISOLATED, "ip", "-br", "link"], capture_output=True, text=True, check=True)
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["lo"]


def test_without_a_command_it_says_how_it_is_used() -> None:
    done = subprocess.run([ISOLATED], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Usage: tools/isolated COMMAND" in done.stdout
