"""A Kubernetes API server and a cloud for all tests of this folder; nodes that both know."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.support import provided
from tests.support.kubernetes import Cluster, cluster, namespace
from tests.support.provided import NODES, Ground

__all__ = ["cluster", "namespace"]


def node(name: str, address: str, *, ready: bool = True) -> str:
    """A Node with an address, ready or not."""
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
    }
    return json.dumps({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status})


@pytest.fixture(scope="session")
def backing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path | None]]:
    with provided.backing(tmp_path_factory.mktemp("cloud")) as found:
        yield found


@pytest.fixture
def nodes(cluster: Cluster) -> Iterator[None]:
    both = "\n---\n".join(node(name, address) for name, address in NODES.items())
    cluster.kubectl("apply", "-f", "-", stdin=both)
    cluster.set_status(both)
    yield
    cluster.kubectl("delete", "nodes", "--all")


@pytest.fixture
async def ground(
    cluster: Cluster,
    nodes: None,
    namespace: str,
    backing: tuple[str, Path | None],
) -> AsyncIterator[Ground]:
    async with provided.ground(cluster, namespace, backing) as made:
        yield made
