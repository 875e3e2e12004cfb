"""The sandbox as data: names by rule, options that only grow, addresses that do not collide."""

from pathlib import Path

import pytest

from vrata.base.errors import InvalidInput
from vrata.base.ids import KERNEL_NAME_MAX
from vrata.sandbox.model import Options, topology
from vrata.sandbox.roster import Paths, parts


@pytest.mark.parametrize(
    ("kubeconfig", "controllers", "flags"),
    [("", None, []), ("outside", None, []), ("outside", True, ["--everything"]), ("outside", False, None)],
)
def test_what_runs_follows_whose_cluster_it_is(
    kubeconfig: str, flags: list[str] | None, *, controllers: bool | None
) -> None:
    options, paths = Options(kubeconfig=kubeconfig, controllers=controllers), Paths(Path("/home"))
    found = {part.name: part.argv for part in parts(options, topology(options), paths)}
    wanted = None if flags is None else ("workloads", "--kubeconfig", str(paths.node_kubeconfig), *flags)
    assert found.get("workloads") == wanted
    # Nodes of another's cluster are never removed because the sandbox's cloud does not know them.
    assert ("service,node" in found["provider"]) == bool(kubeconfig)


def test_equal_options_give_equal_names_and_other_sandboxes_others() -> None:
    assert topology(Options()) == topology(Options())
    names = {machine.netns for machine in topology(Options()).machines}
    assert not names & {machine.netns for machine in topology(Options(name="second")).machines}


def test_every_kernel_name_fits_and_stands_for_one_thing() -> None:
    layout = topology(Options(hosts=5, workers=9))
    names = [layout.fabric, *(machine.netns for machine in layout.machines)]
    ends = [link.fabric_end for machine in layout.machines for link in machine.links]
    assert all(len(name) <= KERNEL_NAME_MAX for name in [*names, *ends])
    assert len(set(names)) == len(names)
    assert len(set(ends)) == len(ends)


def test_no_two_machines_share_an_address() -> None:
    addresses = [link.address for machine in topology(Options(hosts=20, workers=50)).machines for link in machine.links]
    given = [address for address in addresses if address]
    assert len(set(given)) == len(given)


def test_a_larger_sandbox_keeps_what_the_smaller_one_has() -> None:
    small, large = topology(Options(workers=2)), topology(Options(workers=3))
    kept = {machine.name: machine for machine in large.machines}
    for machine in small.machines:
        assert kept[machine.name].links == machine.links
        assert set(machine.routes) <= set(kept[machine.name].routes)


def test_options_not_given_stay_as_they_were() -> None:
    assert Options(workers=3).grown(exists=True, hosts=None, workers=None).workers == 3
    assert Options(workers=3).grown(exists=True, workers=4).workers == 4


@pytest.mark.parametrize("given", [{"workers": 1}, {"hosts": 1}, {"kubeconfig": "/other"}])
def test_a_sandbox_that_exists_does_not_shrink_or_move(given: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match="vrata down"):
        Options().grown(exists=True, **given)
    Options().grown(exists=False, **given)


@pytest.mark.parametrize(
    "options",
    [Options(name="a/b"), Options(name=""), Options(hosts=0), Options(workers=51), Options(advert_interval_ms=1)],
)
def test_what_cannot_be_built_is_named(options: Options) -> None:
    with pytest.raises(InvalidInput, match="--"):
        options.check()
