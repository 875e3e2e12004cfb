"""The order of locks: transactions that keep it never wait for each other in a circle, whatever they lock."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vrata.cloud
from vrata.cloud import migrate
from vrata.cloud.locks import ORDER, RANK, Key, Locks, OutOfOrder

ROWS = st.tuples(st.sampled_from(ORDER), st.sampled_from("abc"))
WISHES = st.lists(ROWS, min_size=1, max_size=8)


class Transaction:
    """Wants rows one after the other; starts again, with what it lacked first, when it wants one too late."""

    def __init__(self, wishes: list[tuple[str, str]]) -> None:
        self.wishes = wishes
        self.first: set[Key] = set()
        self.restarts = 0
        self._begin()

    def _begin(self) -> None:
        self.locks, self.held = Locks(), set[Key]()
        self.left = [(ORDER[rank], row_id) for rank, row_id in sorted(self.first)] + self.wishes

    def wants(self) -> Key | None:
        """The next row it waits for, None when it has all."""
        while self.left:
            table, row_id = self.left[0]
            try:
                if self.locks.wanted(table, [row_id]):
                    return RANK[table], row_id
            except OutOfOrder as error:
                self.restarts += 1
                self.first |= error.keys
                self._begin()
                continue
            self.left.pop(0)
        return None

    def got(self, key: Key) -> None:
        self.held.add(key)
        self.left.pop(0)


@given(WISHES)
def test_what_a_transaction_waits_for_comes_after_all_that_it_holds(wishes: list[tuple[str, str]]) -> None:
    """So a circle of transactions that wait for each other cannot be: in it, some key would have to be less than itself."""
    one = Transaction(wishes)
    while (key := one.wants()) is not None:
        assert all(held < key for held in one.held)
        one.got(key)


@given(WISHES)
def test_a_transaction_starts_again_at_most_once_for_each_row(wishes: list[tuple[str, str]]) -> None:
    one = Transaction(wishes)
    while (key := one.wants()) is not None:
        one.got(key)
    assert {(RANK[table], row_id) for table, row_id in wishes} == one.held
    assert one.restarts <= len(set(wishes))


def test_a_row_that_comes_before_a_locked_one_is_refused_and_named() -> None:
    locks = Locks()
    assert locks.wanted("ports", ["b", "a"]) == ["a", "b"]
    assert locks.wanted("ports", ["a"]) == []
    assert locks.wanted("listeners", ["any"]) == []
    locks.made("load_balancers", ["mine"])
    assert locks.wanted("load_balancers", ["mine"]) == []
    with pytest.raises(OutOfOrder, match=r"load_balancers x is locked after ports b"):
        locks.wanted("load_balancers", ["x"])


def test_every_table_in_the_order_exists() -> None:
    assert set(ORDER) <= set(migrate.metadata().tables)


def test_rows_are_locked_through_the_store_alone() -> None:
    """`with_for_update` elsewhere is announced to the store on a line nearby, or skips what others have."""
    for path in Path(vrata.cloud.__file__).parent.rglob("*.py"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if "with_for_update(" in line and path.name != "store.py":
                near = "\n".join(lines[max(0, number - 4) : number + 1])
                assert re.search(r"\.locking\(|skip_locked=True", near), f"{path.name}:{number + 1}"
