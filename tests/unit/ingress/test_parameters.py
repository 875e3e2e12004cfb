"""What a class says for its Ingresses."""

import msgspec
from tests.unit.ingress.objects import make_ingress

from vrata.ingress.annotations.parse import NGINX, OURS
from vrata.ingress.claims import read_ingress
from vrata.ingress.model import CONTROLLER
from vrata.ingress.parameters import defaults_of
from vrata.kube.objects import ConfigMap, IngressClass


def make_class(**parameters: str) -> IngressClass:
    spec = {
        "controller": CONTROLLER,
        "parameters": {"kind": "ConfigMap", "name": "all", "namespace": "own"} | parameters,
    }
    return msgspec.convert({"metadata": {"name": "vrata"}, "spec": spec}, IngressClass)


ALL = msgspec.convert(
    {"metadata": {"name": "all", "namespace": "own"}, "data": {"ssl-redirect": "false", "proxy-body-size": "8m"}},
    ConfigMap,
)
TLS = (("secret", "a.example"),)


def test_an_ingress_has_what_its_class_says_unless_it_says_otherwise() -> None:
    ingress = make_ingress("a", ("a.example", "Prefix", "/"), tls=TLS)
    defaults, problem = defaults_of(ingress, {"vrata": make_class()}, {"own/all": ALL})
    assert problem is None
    ((claim,),) = read_ingress(ingress, defaults).hosts.values()
    assert not claim.route.https_only
    assert claim.route.policy == "body=8388608"
    for prefix in (NGINX, OURS):
        own = make_ingress("a", ("a.example", "Prefix", "/"), tls=TLS, annotations={f"{prefix}ssl-redirect": "true"})
        ((claim,),) = read_ingress(own, defaults).hosts.values()
        assert claim.route.https_only


def test_parameters_that_are_not_there_are_told() -> None:
    ingress = make_ingress("a", ("a.example", "Prefix", "/"))
    for wrong in (
        make_class(),
        make_class(kind="Gateway"),
        make_class(apiGroup="else.example"),
        make_class(namespace=""),
    ):
        defaults, problem = defaults_of(ingress, {"vrata": wrong}, {"other/all": ALL})
        assert defaults == {}
        assert problem
        assert "name a ConfigMap of the controller's namespace" in problem.message
