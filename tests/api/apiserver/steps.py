"""kubectl's steps whose answers Kubernetes and the sandbox's API server give alike (`test_steps.py`)."""

from typing import Any

Json = dict[str, Any]
Step = tuple[tuple[str, ...], Json | None]
NETWORKING = "networking.k8s.io/v1"


def _object(kind: str, name: str, version: str = "v1", meta: Json | None = None, **fields: Any) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name, **(meta or {})}, **fields}


def _service(name: str, meta: Json | None = None, **spec: Any) -> Json:
    return _object("Service", name, meta=meta, spec={"ports": [{"port": 80}], **spec})


def _ingress(name: str, meta: Json | None = None, **spec: Any) -> Json:
    return _object("Ingress", name, NETWORKING, meta, spec=spec)


def _backend(name: str = "web", **port: Any) -> Json:
    return {"service": {"name": name, "port": port}}


def _rule(host: str, path: str = "/", kind: str | None = "Prefix", backend: Json | None = None) -> Json:
    to = {"path": path, "backend": _backend(number=80) if backend is None else backend}
    return {"host": host, "http": {"paths": [to | ({"pathType": kind} if kind else {})]}}


def _pod(name: str, *containers: Json, **spec: Any) -> Json:
    return _object("Pod", name, spec={"containers": list(containers), **spec})


def _deployment(name: str, template: Json | None = None, **spec: Any) -> Json:
    pods = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "c", "image": "vrata/echo"}]}}
    body = {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": template or pods}
    return _object("Deployment", name, "apps/v1", spec=body | spec)


def _policy(name: str, **spec: Any) -> Json:
    return _object("NetworkPolicy", name, NETWORKING, spec={"podSelector": {}, **spec})


def _create(*objects: Json) -> list[Step]:
    return [(("create", "-f", "-"), one) for one in objects]


def _run(*commands: str) -> list[Step]:
    return [(tuple(command.split()), None) for command in commands]


def _patch(target: str, patch: str, *options: str) -> list[Step]:
    return [(("patch", *target.split(), *options, "-p", patch), None)]


SERVICES = [
    *_create(_service("a"), _service("a"), _service("lb", type="LoadBalancer")),
    *_run("get svc a", "get svc a -o yaml", "get svc lb", "get svc lb -o yaml"),
    *_patch("svc lb", '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}', "--subresource=status"),
    *_patch("svc a", '{"status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.1"}]}}}', "--subresource=status"),
    *_run("get svc lb -o wide", "get svc lb -o jsonpath={.status}"),
    *_patch("svc lb", '{"spec":{"type":"ClusterIP"}}'),
    *_run("get svc lb -o yaml"),
    *_create(
        _service("b-type", type="Nope"), _service("b-ports", ports=[]), _service("b-port", ports=[{"port": 0}]),
        _service("b-names", ports=[{"port": 80}, {"port": 81}]), _service("b-protocol", ports=[{"port": 80, "protocol": "X"}]),
        _service("b-range", clusterIP="1.2.3.4"), _service("b-address", clusterIP="nope"),
        _service("b-node-port", type="NodePort", ports=[{"port": 80, "nodePort": 80}]),
        _service("b-cluster-node-port", ports=[{"port": 80, "nodePort": 30001}]),
        *(_service(f"b-external-{n}", externalIPs=[one]) for n, one in enumerate(("127.0.0.1", "x", "0.0.0.0", "169.254.1.1"))),
        _service("b-affinity", sessionAffinity="x"),
        _service("b-timeout", sessionAffinity="ClientIP", sessionAffinityConfig={"clientIP": {"timeoutSeconds": 0}}),
        _service("Bad_Name"), _service("1bad"), _service("b-name", type="ExternalName"),
        _service("b-name-2", type="ExternalName", externalName="_x y"),
        _service("b-sources", type="LoadBalancer", loadBalancerSourceRanges=["x"]),
        _service("b-sources-2", loadBalancerSourceRanges=["10.0.0.0/8"]), _service("b-policy", externalTrafficPolicy="Local"),
        _service("b-policy-2", type="NodePort", externalTrafficPolicy="x"), _service("b-policy-3", internalTrafficPolicy="x"),
        _service("b-class", loadBalancerClass="x.y/z"), _service("b-class-2", type="LoadBalancer", loadBalancerClass="$"),
        _service("b-families", ipFamilyPolicy="x"), _service("b-families-2", ipFamilies=["IPv5"]),
        _service("b-target", ports=[{"port": 80, "targetPort": "way-too-long-name-for-a-port"}]),
        _service("b-health", healthCheckNodePort=30000), _service("b-port-name", ports=[{"port": 80, "name": "UPPER"}]),
        _service("b-twice", ports=[{"port": 80, "name": "x"}, {"port": 80, "name": "y"}]),
        _service("b-distribution", trafficDistribution="x"), _service("b-label", {"labels": {"a b": "c"}}),
        _service("b-annotation", {"annotations": {"a b": "c"}}), _service("b-unknown", unknown=1),
        _service("b-selector", selector={"a b": "c"}), _service("headless", clusterIP="None"),
        _service("dual", ipFamilyPolicy="RequireDualStack"),
        _service("external", type="ExternalName", externalName="a.example", ports=[]),
    ),
    *_run("get svc headless -o yaml", "get svc dual -o yaml", "get svc"),
    *_patch("svc a", '{"spec":{"clusterIP":"10.96.1.1"}}'), *_patch("svc a", '{"spec":{"ports":[{"port":99999}]}}'),
    *_patch("svc a", '{"metadata":{"finalizers":[],"labels":{}}}', "--type=merge"),
    *_run("label svc a x=y", "label svc a x=z", "label svc a x=z --overwrite", "label svc a x-", "annotate svc a x=y"),
    *_run("get svc a -o yaml", "expose deployment nope --port=80", "delete svc nope", "describe svc headless"),
]  # fmt: skip
INGRESSES = [
    *_create(
        _object("IngressClass", "vr-class", NETWORKING, {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
                spec={"controller": "example.com/c"}),
        _object("IngressClass", "vr-bad", NETWORKING, spec={"controller": "nope"}),
        _object("IngressClass", "vr-bad", NETWORKING, spec={}),
        _ingress("i", rules=[_rule("a.example")]),
    ),
    *_run("get ingressclass vr-class", "describe ingressclass vr-class", "get ing", "get ing i -o yaml", "describe ing i"),
    *_create(
        _ingress("b-empty"), _ingress("b-host", rules=[_rule("A.example")]), _ingress("b-path", rules=[_rule("a.example", "x")]),
        _ingress("b-type", rules=[_rule("a.example", kind="Nope")]), _ingress("b-no-type", rules=[_rule("a.example", kind=None)]),
        *(_ingress(f"b-path-{n}", rules=[_rule("a.example", one)]) for n, one in enumerate(("/a//b", "/%zz", "/a%2fb", "/.."))),
        _ingress("b-paths", rules=[{"host": "a.example", "http": {"paths": []}}]), _ingress("b-ip", rules=[_rule("1.2.3.4")]),
        _ingress("b-stars", rules=[_rule("*.*.example")]),
        *(
            _ingress(f"b-backend-{n}", rules=[_rule("a.example", backend=one)])
            for n, one in enumerate(
                (_backend(), _backend(number=80, name="x"), {}, _backend("W_", number=80), _backend("", number=1))
            )
        ),
        _ingress("b-resource", rules=[_rule("a.example", backend={"resource": {"kind": "X", "name": "y"}})]),
        _ingress("b-default", defaultBackend={}),
        _ingress("b-tls-host", tls=[{"hosts": ["A"]}], defaultBackend=_backend(number=80)),
        _ingress("b-tls-secret", tls=[{"secretName": "A_"}], defaultBackend=_backend(number=80)),
        _ingress("b-class", ingressClassName="A_", defaultBackend=_backend(number=80)),
        _ingress("b-two", {"annotations": {"kubernetes.io/ingress.class": "x"}}, ingressClassName="y",
                 defaultBackend=_backend(number=80)),
    ),
]  # fmt: skip
OTHERS = [
    *_create(
        _object("ConfigMap", "c1", data={"a": "b"}), _object("ConfigMap", "c2", data={"a b": "c"}),
        _object("ConfigMap", "fixed", data={"a": "b"}), _object("Secret", "s3", data={"a": "%%"}),
        _object("Secret", "s2", type="kubernetes.io/tls", data={}),
        _object("Secret", "s4", type="kubernetes.io/tls", stringData={"tls.crt": "x"}),
    ),
    *_run("create secret generic s1 --from-literal=a=b", "get secret s1 -o yaml", "describe secret s1"),
    *_run("get cm c1 -o yaml", "get cm", "describe cm c1"),
    *_patch("cm fixed", '{"immutable":true}', "--type=merge"), *_patch("cm fixed", '{"data":{"a":"c"}}', "--type=merge"),
    *_patch("cm c1", '[{"op":"remove","path":"/data/zz"}]', "--type=json"),
    *_patch("cm c1", '[{"op":"test","path":"/data/a","value":"zz"}]', "--type=json"),
    *_patch("cm c1", '{"metadata":{"resourceVersion":"1"}}', "--type=merge"),
    (("replace", "-f", "-"), _object("ConfigMap", "nope")),
    (("apply", "--server-side", "-f", "-"), _object("ConfigMap", "c1", data={"a": "q"})),
    (("apply", "--server-side", "--force-conflicts", "-f", "-"), _object("ConfigMap", "c1", data={"a": "q"})),
    *_run("get cm c1 -o yaml --show-managed-fields"),
    *_create(
        _policy("np"), _policy("np2", ingress=[{"ports": [{"port": 99999}]}]),
        _policy("np3", ingress=[{"from": [{"ipBlock": {"cidr": "x"}}]}]), _policy("np4", policyTypes=["X"]),
    ),
    *_run("get netpol", "describe netpol np"),
    *_create(
        _deployment("d"), _deployment("b-replicas", replicas=-1), _deployment("b-selector", selector={"matchLabels": {"x": "y"}}),
        _deployment("b-strategy", strategy={"type": "X"}),
        _deployment("b-containers", {"metadata": {"labels": {"app": "b-containers"}}, "spec": {"containers": []}}),
        _pod("b-name", {"name": "A_", "image": "x"}), _pod("b-image", {"name": "a"}),
        _pod("b-port", {"name": "a", "image": "x", "ports": [{"containerPort": 0}]}),
        _pod("b-restart", {"name": "a", "image": "x"}, restartPolicy="X"),
        _pod("b-twice", {"name": "a", "image": "x"}, {"name": "a", "image": "x"}),
        _pod("b-quantity", {"name": "a", "image": "x", "resources": {"requests": {"cpu": "x"}}}),
    ),
    *_run("get deploy d", "scale deploy d --replicas=1 --current-replicas=5", "scale deploy d --replicas=0"),
    *_run("set image deploy/d c=other", "delete deploy d", "get deploy d"),
    *_run("get nope", "get svc nope", "get --raw /api/v1/namespaces/nope/nope", "get --raw /nope", "auth can-i get pods"),
    *_run("get svc --field-selector=spec.nope=x", "get cm --field-selector=data.x=y", "create cm x--"),
    *_run("create ns A_", "delete ns default"),
    *_run("get cm --sort-by=.metadata.name", "api-resources --api-group=discovery.k8s.io"),
    *_run(
        *(
            f"explain {what}"
            for what in (
                "svc", "svc.spec", "svc.spec.type", "svc.nope", "ingress.spec", "ingress.spec.rules.http.paths.pathType",
                "ingressclass.spec", "deploy.spec.strategy", "networkpolicy.spec", "cm", "secret.type", "lease.spec",
                "endpointslice.endpoints.conditions", "endpointslice.ports", "pod.spec.restartPolicy", "role.rules",
                "event", "customresourcedefinition.spec.names",
            )
        )
    ),
]  # fmt: skip


def name_of(step: Step) -> str:
    """A step's name: unique, without blanks."""
    argv, sent = step
    words = [word.replace("/", "_") for word in argv if word.isascii() and not set(word) & set('{}[]()" ')]
    return "-".join([*words, sent["kind"], sent["metadata"]["name"]] if sent else words)


STEPS = (*SERVICES, *INGRESSES, *OTHERS)
