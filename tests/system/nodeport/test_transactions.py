"""Any ruleset, and any way from one to another, is something that nft and the kernel take."""

import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st

from vrata.net.flows import Target
from vrata.nodeport.model import ChainName, PortView, Rules, Surroundings
from vrata.nodeport.plan import plan_change
from vrata.nodeport.render import render_leftovers, render_rules, render_skeleton, render_transaction

targets = st.lists(
    st.builds(Target, address=st.sampled_from([f"10.20.0.{n}" for n in range(2, 8)]), port=st.sampled_from([53, 8080])),
    max_size=4,
    unique=True,
).map(tuple)
views = st.lists(
    st.builds(
        PortView,
        service=st.sampled_from(["default/web", "default/dns", "a; flush ruleset/}"]),
        name=st.sampled_from(["http", "", "x; flush ruleset", "}\n"]),
        protocol=st.sampled_from(["tcp", "udp", "sctp"]),
        cluster_ips=st.sampled_from([("10.96.0.5",), ("10.96.0.6",)]),
        port=st.integers(1, 65535),
        node_port=st.sampled_from([0, *range(30080, 30090)]),
        internal=targets,
        external=targets,
        external_local=st.booleans(),
        affinity_s=st.sampled_from([0, 1, 86400]),
    ),
    max_size=5,
    unique_by=(lambda view: (view.protocol, view.port), lambda view: (view.protocol, view.node_port or -view.port)),
).map(tuple)


@given(st.lists(views, min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_nft_takes_any_chain_of_changes(steps: list[tuple[PortView, ...]]) -> None:
    observed, text = Rules(), render_skeleton(Surroundings(), anew=True)
    shared: frozenset[ChainName] = frozenset()
    for step in steps:
        desired = render_rules(step)
        change = plan_change(observed, desired, shared)
        text += render_transaction(change) + render_leftovers(change)
        observed, shared = desired, shared | desired.shared.keys() | desired.maps.keys()
    checked = subprocess.run(["nft", "-c", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, f"{checked.stderr}\n{text}"
