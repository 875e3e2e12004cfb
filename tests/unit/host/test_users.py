"""Each instance of a host has a user of its own, for as long as it is there."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from vrata.host.model import FIRST_USER_ID, USER_IDS, Record, free_user_id
from vrata.host.store import HostStore

IDS = st.lists(st.uuids().map(str), min_size=1, max_size=30, unique=True)


@given(IDS, st.sets(st.integers(0, 3)))
def test_no_user_is_given_twice_and_all_are_of_the_range(instances: list[str], steps: set[int]) -> None:
    # Whoever has what the next one would get, or what it would get then, has to be passed by.
    taken = {free_user_id(one, ()) + step for one in instances for step in steps}
    given_out: set[int] = set()
    for one in instances:
        user = free_user_id(one, taken | given_out)
        assert user not in taken | given_out
        assert FIRST_USER_ID <= user < FIRST_USER_ID + USER_IDS
        given_out.add(user)


def test_a_user_stays_over_restarts_and_is_free_again_when_its_instance_is_gone(tmp_path: Path) -> None:
    store = HostStore(tmp_path)
    store.prepare()
    users = {name: store.user_id(name) for name in ("one", "two", "three")}
    assert len(set(users.values())) == 3
    # "two" was given another one, as if its own had been taken then.
    store.save_record(Record(id="two", netns="n", user_id=users["one"] + 7))
    store.save_record(Record(id="old", netns="n"))
    again = HostStore(tmp_path)
    assert again.user_id("two") == users["one"] + 7
    assert again.user_id("one") == users["one"]
    assert again.user_id("old") not in (users["one"], users["one"] + 7)
    again.forget("two")
    assert again.user_id("two") == users["two"]
