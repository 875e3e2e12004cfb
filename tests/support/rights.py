"""What a program asks of an API server with the token of its ServiceAccount, beside what its roles grant."""

import base64
import re
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import yaml
from tests.support.front import Front
from tests.support.kubernetes import Cluster

from vrata.sandbox.apiserver.rbac import Wish, covers, wish_of, wishes_of

_PATH = re.compile(
    r"/apis?/(?:(?P<group>[a-z.0-9]+\.[a-z.0-9]+)/)?v1(?:/namespaces/(?P<namespace>[^/]+)(?=/))?"
    r"/(?P<resource>[a-z]+)(?:/(?P<name>[^/]+)(?:/(?P<sub>[a-z]+))?)?"
)


@contextmanager
def account(cluster: Cluster, namespace: str, name: str, folder: Path) -> Iterator[tuple[Front, Path]]:
    """A front before the API server, and a kubeconfig of this ServiceAccount that leads through it."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    reached = config["clusters"][0]["cluster"]
    trust = ssl.create_default_context(cadata=base64.b64decode(reached.pop("certificate-authority-data")).decode())
    front = Front(reached["server"], trust=trust).start()
    reached["server"] = front.url
    config["users"][0]["user"] = {"token": cluster.kubectl("-n", namespace, "create", "token", name).strip()}
    kubeconfig = folder / f"{name}.kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    try:
        yield front, kubeconfig
    finally:
        front.stop()


def asked(front: Front) -> set[Wish]:
    """The right that each request needed."""
    found = set()
    for method, path, query in front.seen:
        match = _PATH.fullmatch(path)
        assert match, path
        group, namespace, resource, name, sub = match.group("group", "namespace", "resource", "name", "sub")
        if resource == "namespaces":
            namespace = name
        resource += f"/{sub}" if sub else ""
        found.add(wish_of(method, group or "", resource, namespace or "", name or "", dict(parse_qsl(query))))
    return found


def unused(objects: Iterable[dict[str, Any]], account: str, wishes: set[Wish]) -> list[str]:
    """Single rights of the roles bound to an account that no request needed, or that another rule grants, too."""
    roles = {(one["kind"], one["metadata"]["name"]): one for one in objects if one["kind"] in ("Role", "ClusterRole")}
    rules: list[tuple[str, dict[str, Any]]] = []  # namespace, empty for all; a rule of one right
    for binding in (one for one in objects if one["kind"].endswith("Binding")):
        if account in {one["name"] for one in binding["subjects"]}:
            role = roles[binding["roleRef"]["kind"], binding["roleRef"]["name"]]
            namespace = binding["metadata"].get("namespace", "")
            for one in wishes_of(role["rules"], namespace):
                single = {"verbs": [one.verb], "apiGroups": [one.group], "resources": [one.resource]}
                rules.append((namespace, single | ({"resourceNames": [one.name]} if one.name else {})))
    assert rules, f"nothing is bound to {account}"
    needed = set()
    for wish in wishes:
        holding = [n for n, (at, rule) in enumerate(rules) if at in ("", wish.namespace) and covers(rule, wish)]
        if len(holding) == 1:
            needed.add(holding[0])
    return [f"{rule} in {at or 'all namespaces'}" for n, (at, rule) in enumerate(rules) if n not in needed]
