"""The cluster, pods and controller of the Ingress tests, for attacks on them."""

from tests.system.ingress.conftest import echoes, kubernetes, nobodys_hosts, site

__all__ = ["echoes", "kubernetes", "nobodys_hosts", "site"]
