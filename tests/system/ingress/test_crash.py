"""kill -9 of the Ingress controller at every instant of a change, one after the other; started again, it makes it good.

An instant is the moment before one effect on the world (`tests.support.mortal`): a file, a signal, a command to HAProxy.
What HAProxy has afterwards is what it has when nobody dies, and somebody else's requests never notice.
"""

import tempfile
from pathlib import Path

from tests.support.kubernetes import Cluster, wait_for
from tests.support.pki import issue
from tests.system.ingress.site import Echoes, Json, Site, endpoint, ingress, secret, service
from tests.system.ingress.test_churn import state

from vrata.ingress.model import SecretKey
from vrata.ingress.served import secret_digest

MOST_INSTANTS = 100
HOST = "changing.example"


def first(echoes: Echoes) -> list[Json]:
    """A host with a path, a policy and a certificate."""
    return [
        endpoint("changing", "pod", echoes.port("one")),
        ingress(
            "changing", (HOST, "Prefix", "/", "changing"), tls={"changing": [HOST]}, annotations={"limit-rps": "900"}
        ),
        ingress("other", ("other.example", "Prefix", "/", "web")),
    ]


def second(echoes: Echoes) -> list[Json]:
    """Other pods, paths that are patterns, another policy, another host."""
    words = {"rewrite-target": "/new/$1", "hsts": "max-age=60"}
    return [
        endpoint("changing", "pod", echoes.port("two")),
        ingress("changing", (HOST, "Prefix", "/a/(.*)", "changing"), tls={"changed": [HOST]}, annotations=words),
        ingress("other", ("another.example", "Prefix", "/", "shop")),
    ]


def test_a_change_survives_a_kill_at_every_instant(kubernetes: Cluster, site: Site, echoes: Echoes) -> None:
    site.apply(ingress("calm", ("calm.example", "Prefix", "/", "web")), service("changing"))
    site.apply(secret("changing", issue("one", HOST)), secret("changed", issue("two", HOST)))
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        mortal, death = Site(kubernetes, Path(folder)), Path(folder) / "death"
        mortal.program = ["tests.support.mortal", str(death)]
        try:
            mortal.start()
            mortal.until("calm.example", "/", "one")
            _visit_every_instant(site, mortal, death, [first(echoes), second(echoes)])
        finally:
            assert mortal.process
            mortal.process.terminate()  # whoever starts it again takes it along
            mortal.process.wait(90)
            mortal.stop()
    site.cluster.kubectl(
        "delete", "ingress/changing", "ingress/other", "service/changing", "endpointslice/changing-pod"
    )


def _served(one: Site, number: int) -> Json:
    """What it serves, once that has the change in it; {} until then."""
    found = state(one)
    certificates = "".join(found["certificates"])
    here = [secret_digest(SecretKey(f"default/{name}")) in certificates for name in ("changing", "changed")]
    there = [f"http {name}/" in found["rows"] for name in ("other.example", "another.example")]
    return found if here == there == [number == 0, number == 1] else {}


def _visit_every_instant(site: Site, mortal: Site, death: Path, changes: list[list[Json]]) -> None:
    """`site` never dies."""
    died = death.with_suffix(".died")
    died.touch()
    instants = [0] * len(changes)
    with mortal.load("calm.example") as seen:
        for instant in range(MOST_INSTANTS):  # nobody dies of the first one
            for number, objects in enumerate(changes):
                label = f"change-{number}-{instant} {instant}"
                death.write_text(label)
                mortal.apply(*objects)

                def made_good(number: int = number) -> bool:
                    return _served(site, number) == _served(mortal, number) != {}

                wait_for(made_good, f"{label} is made good", 30)
                instants[number] += died.read_text().startswith(label)
            if max(instants) < instant:
                break
    print(f"\ninstants: {instants}")
    assert min(instants) > 8
    assert seen.good > 20
    assert not seen.bad
