"""What goes wrong around the Ingress controller costs nobody a request."""

import tempfile
from itertools import count
from pathlib import Path

from tests.support.kubernetes import Cluster, wait_for
from tests.system.ingress.site import Echoes, Site, endpoint, ingress, service

from vrata.ingress.served import DEFAULT


def test_an_error_that_nobody_thought_of_stops_nothing_that_serves(
    kubernetes: Cluster, site: Site, echoes: Echoes
) -> None:
    """Here a file that is no text, when HAProxy has to be reloaded."""
    site.apply(ingress("calm", ("calm.example", "Prefix", "/", "web")))
    with tempfile.TemporaryDirectory(prefix="vr-") as folder:
        broken = Site(kubernetes, Path(folder), "--spare-backends", "1")
        try:
            broken.start()
            broken.until("calm.example", "/", "one")
            file = broken.directory / "tls" / DEFAULT
            kept = file.read_bytes()
            file.write_bytes(b"\xff")
            with broken.load("calm.example") as seen:

                def reloaded(number: int) -> bool:
                    """Another Service, until no backend is left for one; those with cookies no HAProxy adds."""
                    name = f"unlucky-{number}"
                    site.apply(
                        service(name),
                        endpoint(name, "two", echoes.port("two")),
                        ingress(name, (f"{name}.example", "Prefix", "/", name), annotations={"affinity": "cookie"}),
                    )
                    return "pass failed" in broken.log.read_text()

                made = count()
                wait_for(lambda: reloaded(next(made)), "it can not be reloaded")
                assert broken.pod("calm.example") == "one"
                file.write_bytes(kept)
                broken.until(f"unlucky-{next(made) - 1}.example", "/", "two")
            assert seen.good > 20
            assert not seen.bad
        finally:
            broken.stop()
