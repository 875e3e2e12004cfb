"""What goes wrong around the Ingress controller costs nobody a request."""

import tempfile
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
                asked = broken.answer("show backend").splitlines(), broken.rows("owners")
                places, taken = (sum(line.startswith("b-") for line in lines) for lines in asked)
                names = [f"unlucky-{number}" for number in range(places - taken + 1)]
                site.apply(*(service(name) for name in names))
                site.apply(*(endpoint(name, "two", echoes.port("two")) for name in names))
                site.apply(*(ingress(name, (f"{name}.example", "Prefix", "/", name)) for name in names))
                wait_for(lambda: "pass failed" in broken.log.read_text(), "it can not be reloaded")
                assert broken.pod("calm.example") == "one"
                file.write_bytes(kept)
                broken.until(f"{names[-1]}.example", "/", "two")
            assert seen.good > 20
            assert not seen.bad
        finally:
            broken.stop()
