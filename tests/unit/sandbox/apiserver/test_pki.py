"""Certificates and kubeconfigs are made once, and made anew only when they must be."""

import ssl
from base64 import b64decode
from pathlib import Path

import pytest
import yaml

from vrata.base.errors import VrataError
from vrata.sandbox.apiserver import pki


def test_a_second_preparation_changes_nothing(tmp_path: Path) -> None:
    first = pki.prepare(tmp_path, ["10.10.0.10"])
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    again = pki.prepare(tmp_path, ["10.10.0.10"])
    assert again == first
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files


def test_a_further_name_renews_the_certificate_under_the_same_authority(tmp_path: Path) -> None:
    first = pki.prepare(tmp_path)
    authority, certificate = first.ca_file.read_bytes(), first.certificate_file.read_bytes()
    second = pki.prepare(tmp_path, ["api.example.com"])
    assert second.ca_file.read_bytes() == authority
    assert second.certificate_file.read_bytes() != certificate
    assert second.token == first.token


def test_a_given_token_is_kept_and_an_empty_one_refused(tmp_path: Path) -> None:
    token = tmp_path / "given"
    token.write_text("sesame\n")
    assert pki.prepare(tmp_path / "data", token_file=token).token == "sesame"
    token.write_text("\n")
    with pytest.raises(VrataError, match="the token file is empty"):
        pki.prepare(tmp_path / "data", token_file=token)


def test_a_kubeconfig_holds_all_that_a_client_needs(tmp_path: Path) -> None:
    credentials = pki.prepare(tmp_path / "data")
    pki.write_kubeconfig(tmp_path / "kc", "https://10.10.0.10:6443", credentials)
    config = yaml.safe_load((tmp_path / "kc").read_text())
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://10.10.0.10:6443"
    assert config["users"][0]["user"]["token"] == credentials.token
    ssl.create_default_context(cadata=b64decode(cluster["certificate-authority-data"]).decode())
    assert (tmp_path / "kc").stat().st_mode & 0o077 == 0
