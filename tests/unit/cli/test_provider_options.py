"""An option stands above cloud.conf, and what is not given changes nothing."""

from pathlib import Path
from typing import Any

import pytest

from vrata.cli.provider import command
from vrata.cli.provider_options import given
from vrata.provider.model import Settings

CONF = "[Global]\nauth-url=https://k/v3\nusername=u\npassword=p\ntenant-name=t\n[LoadBalancer]\nmonitor-delay=7s\n"


def settings(*arguments: str) -> Settings:
    parameters: dict[str, Any] = command.make_context("provider", list(arguments)).params
    for name in ("controllers", "cluster_cidr", "lease", "lease_duration_s", "http_port", "manifest", "image"):
        del parameters[name]
    return given(**parameters).settings


def test_what_is_not_given_is_as_the_settings_say() -> None:
    assert settings() == Settings()


@pytest.mark.parametrize("policy", ["wait", "failover", "rebuild"])
def test_what_is_done_on_error_is_said(policy: str, tmp_path: Path) -> None:
    conf = tmp_path / "cloud.conf"
    conf.write_text(CONF)
    assert settings("--on-error", policy).on_error == policy
    found = settings("--cloud-config", str(conf), "--on-error", policy)
    assert (found.on_error, found.monitor_delay_s, found.monitor) == (policy, 7, False)
    assert settings("--cloud-config", str(conf), "--monitor").monitor
