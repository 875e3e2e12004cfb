"""Key material that is slow to open: what one request names shares a budget, and waits among its own kind."""

import resource
import subprocess
from collections.abc import Iterator

import pytest
from tests.support.pki import issue

from vrata.cloud.keymanager import material
from vrata.cloud.keymanager.foreign import TOO_LONG, ForeignKeys, Source
from vrata.cloud.slow import Slow

START_S = 2.0  # processor time of a child's start, at most
ROUNDS = 500_000


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForeignKeys]:
    keys = ForeignKeys()
    monkeypatch.setattr(material, "FOREIGN", keys)
    yield keys
    keys.close()


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A PKCS #12 file that takes a good part of a second."""
    whole, identity = tmp_path_factory.mktemp("slow") / "whole", issue("slow.example")
    whole.write_text(identity.key_pem + identity.cert_pem)
    command = ["openssl", "pkcs12", "-export", "-in", str(whole), "-iter", str(ROUNDS), "-passout", "pass:"]
    return Source(pkcs12=subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def quick() -> Source:
    return Source(pkcs12=issue("quick.example").pkcs12())


def spent_by_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_what_one_request_names_shares_one_budget(keys: ForeignKeys, slow: Source) -> None:
    before, budget = spent_by_children_s(), 1.0
    found = keys.read_all({str(number): slow for number in range(40)}, budget)
    keys.close()
    assert len(found) < 40
    assert all("PRIVATE KEY" in reading.pem for reading in found.values())
    assert sum(reading.spent_s for reading in found.values()) <= budget
    assert spent_by_children_s() - before < budget + START_S


def test_what_is_slow_waits_among_its_own_kind_and_is_read_then(keys: ForeignKeys, slow: Source, quick: Source) -> None:
    assert keys.read(quick, 1.0) is not None  # a child is there
    assert isinstance(material._read_quickly({"a": quick}), dict)
    first = material._read_quickly({"a": quick, "b": slow})
    assert isinstance(first, Slow)
    found = first.work()
    assert all("PRIVATE KEY" in found[name].pem for name in "ab")


def test_what_does_not_fit_into_the_budget_is_refused_with_what_to_do(keys: ForeignKeys, slow: Source) -> None:
    first = material._read_quickly({str(number): slow for number in range(40)})
    assert isinstance(first, Slow)
    found = first.work()
    assert len(found) == 40
    assert {reading.remedy for reading in found.values()} <= {"", TOO_LONG}
    assert TOO_LONG in {reading.remedy for reading in found.values()}
