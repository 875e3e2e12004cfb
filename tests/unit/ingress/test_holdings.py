"""What is written of kept hosts is read again, whatever else stands there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.holdings import KEY, is_recorded, read_record, record_of, write_record
from vrata.kube.objects import ConfigMap, ObjectMeta


def config_map(**data: str) -> ConfigMap:
    return ConfigMap(ObjectMeta("front-hosts", "default"), data)


@given(st.dictionaries(st.sampled_from(["*", "*.a.example", "b.example"]), st.sampled_from(["red", "blue"])))
def test_what_is_written_is_read(kept: dict[str, str]) -> None:
    content = write_record(kept)
    written = config_map(**content["data"])
    assert read_record(written) == kept
    assert is_recorded(content, written)
    assert is_recorded(content, None) == (not kept)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}'])
def test_what_cannot_be_read_is_nothing_and_is_written_anew(text: str) -> None:
    assert read_record(config_map(hosts=text)) == {}
    assert not is_recorded(write_record({"a.example": "red"}), config_map(hosts=text))


def test_so_many_hosts_that_they_do_not_fit_are_cut() -> None:
    content = write_record({f"{number}.example": "n" * 60 for number in range(20_000)})
    assert 600_000 < len(content["data"][KEY]) < 1_000_000


def test_it_lies_beside_the_service_in_front() -> None:
    assert record_of("vrata-ingress/vrata-ingress") == "vrata-ingress/vrata-ingress-hosts"
