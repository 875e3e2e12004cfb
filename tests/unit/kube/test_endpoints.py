"""One choice of endpoints for every data path: the node proxy, the provider's pods as members, the Ingress controller."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from vrata.ingress.endpoints import backend_key, servers_of
from vrata.kube.endpoints import serving
from vrata.kube.objects import Endpoint, EndpointConditions, EndpointSlice, Service
from vrata.nodeport.plan import Here, view_service
from vrata.provider.members import pod_members

SERVICE = msgspec.convert(
    {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.5",
            "clusterIPs": ["10.96.0.5"],
            "ports": [{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}],
        },
    },
    Service,
)
CONDITIONS = st.fixed_dictionaries({}, optional={name: st.booleans() for name in ("ready", "serving", "terminating")})
PORTS = st.lists(
    st.sampled_from(
        [
            {"name": "http", "port": 8080, "protocol": "TCP"},
            {"name": "http", "port": 8080, "protocol": "UDP"},
            {"name": "other", "port": 8081, "protocol": "TCP"},
            {"name": "http", "protocol": "TCP"},  # every port (discovery.k8s.io/v1, EndpointPort)
        ]
    ),
    max_size=2,
)


@given(st.lists(CONDITIONS, max_size=5), PORTS)
def test_every_data_path_chooses_the_same_endpoints(conditions: list[dict[str, bool]], ports: list[object]) -> None:
    entry = msgspec.convert(
        {
            "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": [f"10.20.0.{number}"], "conditions": one} for number, one in enumerate(conditions, 2)
            ],
            "ports": ports,
        },
        EndpointSlice,
    )
    (view,) = view_service(SERVICE, [entry], Here("a"))
    members = pod_members([entry], SERVICE, SERVICE.spec.ports[0], 4, None)
    servers, _ = servers_of(backend_key("default/web", "http"), SERVICE, [entry])
    node_proxy = {(target.address, target.port) for target in view.internal}
    assert node_proxy == {(one.address, one.port) for one in members} == {(one.address, one.port) for one in servers}
    assert all(port == 8080 for _, port in node_proxy)


def test_those_that_terminate_serve_only_while_nobody_is_ready() -> None:
    def endpoint(**conditions: bool) -> Endpoint:
        return Endpoint(addresses=("10.20.0.2",), conditions=EndpointConditions(**conditions))

    leaving = endpoint(ready=False, serving=True, terminating=True)
    starting = endpoint(ready=False, serving=False)
    unready = endpoint(ready=False, serving=True)  # a slice that somebody wrote by hand
    assert serving([(leaving, "leaving"), (endpoint(), "ready")]) == {"ready"}
    assert serving([(leaving, "leaving"), (starting, "starting"), (unready, "unready")]) == {"leaving"}
    assert serving([(unready, "unready")]) == frozenset()
