"""Names that fit into the kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.base.ids import KERNEL_NAME_MAX, kernel_name, mac_address


@given(st.lists(st.text(), min_size=1))
def test_kernel_names_fit_and_are_stable(parts: list[str]) -> None:
    name = kernel_name("ns", *parts)
    assert len(name) == KERNEL_NAME_MAX
    assert name.startswith("vr-ns")
    assert name == kernel_name("ns", *parts)


def test_parts_are_not_run_together() -> None:
    assert kernel_name("ns", "ab", "c") != kernel_name("ns", "a", "bc")


@pytest.mark.parametrize("kind", ["", "NS", "toolong", "n1"])
def test_a_kind_is_a_few_letters(kind: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        kernel_name(kind, "x")


def test_mac_addresses_are_local_and_unicast() -> None:
    first_octet = int(mac_address("a", "b").split(":")[0], 16)
    assert first_octet & 0b10
    assert not first_octet & 0b1
