"""What an agent starts may end at once, and again: it waits ever longer, and the log says why it ended."""

import os
import shlex
from pathlib import Path

import pytest
from tests.support.fabric import wait_until
from tests.system.host.lab import HOSTS, INSTANCES, Lab, balancer, lab
from tests.system.host.test_gateway import gateway

from vrata.host.model import Part

PAUSES = ["0.0", "0.5", "1.0"]


def ends(it: Lab, part: Part) -> list[dict[str, str]]:
    """What the agent said of the ends of a part."""
    lines = [line for line in it.logs_since_restart(HOSTS[0]).splitlines() if f'event="{part} ended"' in line]
    return [dict(word.split("=", 1) for word in shlex.split(line)) for line in lines]


@pytest.mark.parametrize("part", Part)
async def test_a_child_that_ends_at_once_waits_longer_each_time_and_is_quoted(
    short_path: Path, monkeypatch: pytest.MonkeyPatch, part: Part
) -> None:
    programs = short_path / "programs"
    programs.mkdir()
    broken = programs / part
    broken.write_text("#!/bin/sh\necho what I was told >&2\necho makes no sense >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    async with lab("kids", short_path) as it:
        wanted = gateway(HOSTS[0]) if part is Part.CONNTRACKD else balancer(HOSTS[0])
        await it.cloud.want(HOSTS[0], wanted)
        await wait_until(lambda: len(ends(it, part)) >= len(PAUSES), it.logs)
        found = ends(it, part)
        assert [event["again_in_s"] for event in found][: len(PAUSES)] == PAUSES
        assert {event["status"] for event in found} == {"exit status 3"}
        assert {event["said"] for event in found} == {"what I was told | makes no sense"}
        await wait_until(lambda: "makes no sense" in str(it.cloud.seen(HOSTS[0], INSTANCES[HOSTS[0]])), it.logs)
        broken.unlink()
        await wait_until(lambda: it.pid(HOSTS[0], part) != 0, it.logs)
