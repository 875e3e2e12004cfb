"""Which desired sets a host takes: no loss or skew of the control plane's state removes an instance."""

from pathlib import Path

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vrata.base.wire import DesiredInstance, DesiredSet, InstanceKind, Refusal, Vrrp
from vrata.host import trust
from vrata.host.store import HostStore

IDS = st.frozensets(st.sampled_from([f"i{number}" for number in range(12)]), max_size=12)


def instance(instance_id: str, generation: int = 1) -> DesiredInstance:
    vrrp = Vrrp(router_id=1, priority=250, advert_interval_ms=100, source="10.0.0.2")
    return DesiredInstance(
        id=instance_id, kind=InstanceKind.BALANCER, owner_id="o", generation=generation, legs=(), vrrp=vrrp
    )


def desired(ids: frozenset[str], revision: int = 5, database: str = "d", **more: object) -> DesiredSet:
    made = DesiredSet(revision=revision, database=database, instances=tuple(instance(one) for one in sorted(ids)))
    return msgspec.structs.replace(made, **more)


@given(IDS.filter(bool), IDS, st.integers(0, 4))
def test_an_older_or_another_database_changes_nothing(
    carried: frozenset[str], given_: frozenset[str], age: int
) -> None:
    last = desired(carried)
    assert trust.refuse(last, carried, desired(given_, revision=age), None, "new")
    assert trust.refuse(last, carried, desired(given_, revision=9, database="other"), None, "new")


@given(IDS, IDS, IDS, IDS)
def test_at_most_half_goes_unless_it_is_named(
    carried: frozenset[str], given_: frozenset[str], leaving: frozenset[str], broken: frozenset[str]
) -> None:
    received = desired(given_, 6, leaving=tuple(leaving), broken=dict.fromkeys(broken, "why"))
    missing = carried - given_ - leaving - broken
    refused = trust.refuse(desired(carried), carried, received, None, "new")
    assert (refused is not None) == (2 * len(missing) > len(carried))


@given(IDS, IDS)
def test_what_leaves_on_purpose_leaves_however_much_it_is(carried: frozenset[str], kept: frozenset[str]) -> None:
    received = desired(kept & carried, 6, leaving=tuple(carried - kept))
    assert trust.refuse(desired(carried), carried, received, None, "new") is None


@given(IDS.filter(bool), st.data())
def test_an_older_database_is_noticed_when_its_revision_has_caught_up(
    carried: frozenset[str], data: st.DataObject
) -> None:
    back = data.draw(st.sampled_from(sorted(carried)))

    def at(generation: int, revision: int) -> DesiredSet:
        of = {name: generation if name == back else 7 for name in carried}
        instances = tuple(instance(name, number) for name, number in sorted(of.items()))
        return msgspec.structs.replace(desired(carried, revision), instances=instances)

    last = at(7, 5)
    assert trust.refuse(last, carried, at(8, 9), None, "new") is None
    refusal = trust.refuse(last, carried, at(6, 9), None, "new")
    assert refusal
    assert back in refusal.reason
    assert trust.refuse(last, carried, at(8, 10), refusal, "newer") == refusal, (
        "more changes do not bring back what was lost"
    )


def test_only_the_refusal_that_was_overruled_is() -> None:
    carried = frozenset({"i1"})
    received = desired(frozenset(), 1, "other", adopt="r1")
    assert trust.refuse(desired(carried), carried, received, Refusal(id="r1", reason=""), "new") is None
    assert trust.refuse(desired(carried), carried, received, Refusal(id="r2", reason=""), "new")
    assert trust.refuse(desired(carried), carried, received, None, "new")


@given(st.lists(st.tuples(st.sampled_from(["d", "other"]), st.integers(1, 9)), max_size=6), st.integers(5, 99))
def test_a_database_that_lost_changes_is_refused_whatever_follows_until_it_is_adopted(
    between: list[tuple[str, int]], revision: int
) -> None:
    carried = frozenset({"i1", "i2"})
    last = desired(carried)
    first = refusal = trust.refuse(last, carried, desired(carried, 4), None, "r1")
    for database, older in between:
        refusal = trust.refuse(last, carried, desired(carried, older, database), refusal, "r2")
    refusal = trust.refuse(last, carried, desired(carried, revision), refusal, "r3")
    assert first
    assert refusal
    assert (refusal.id, refusal.lost_changes) == ("r1", True)
    assert trust.refuse(last, carried, desired(carried, revision, adopt="r1"), refusal, "r4") is None


def test_the_right_database_is_taken_again_after_another_one() -> None:
    carried = frozenset({"i1"})
    refusal = trust.refuse(desired(carried), carried, desired(carried, 9, "other"), None, "r1")
    assert refusal
    assert trust.refuse(desired(carried), carried, desired(carried), refusal, "r2") is None


def test_an_older_cloud_names_no_database_and_is_held_to_the_half_alone() -> None:
    carried = frozenset({"i1", "i2"})
    assert trust.refuse(desired(carried), carried, desired(frozenset({"i1"}), 1, ""), None, "new") is None
    assert trust.refuse(desired(carried), carried, desired(frozenset(), 1, ""), None, "new")
    assert trust.refuse(None, carried, desired(frozenset(), 1, "new"), None, "new")  # its own memory is lost


def test_a_refusal_outlives_the_agent(tmp_path: Path) -> None:
    store = HostStore(tmp_path)
    store.prepare()
    assert store.load_refusal() is None
    for refusal in (Refusal(id="r1", reason="older", lost_changes=True), None):
        store.save_refusal(refusal)
        assert HostStore(tmp_path).load_refusal() == refusal


def test_a_broken_instance_stays_as_it_is() -> None:
    known = {"i1": instance("i1", 7)}
    received = desired(frozenset({"i2"}), broken={"i1": "why", "i3": "never built"})
    taken = trust.with_broken(received, known)
    assert [(one.id, one.generation) for one in taken.instances] == [("i2", 1), ("i1", 7)]
