"""The manifests of the story."""

from typing import Any

from vrata.kube.manifests import manifest

IMAGE = "vrata:sandbox"  # any will do: the sandbox's nodes run a container's command from this checkout
Json = dict[str, Any]

# Exactly as a user of the cloud would write it.
INTERNAL_SERVICE = """\
apiVersion: v1
kind: Service
metadata:
  name: nginx
  labels:
    k8s-app: nginx-backend
  annotations:
     service.beta.kubernetes.io/openstack-internal-load-balancer: "true"
spec:
  type: LoadBalancer
  externalTrafficPolicy: Cluster
  selector:
    k8-app: nginx-backend
  ports:
    - port: 80
      name: http
      targetPort: http
    - port: 443
      name: https
      targetPort: httpn
"""


def ingress_controller() -> str:
    """As `vrata ingress --manifest` prints it."""
    return manifest("ingress", IMAGE)


def echo_deployment(name: str, replicas: int = 2, labels: dict[str, str] | None = None, version: str = "1") -> Json:
    """A Deployment of the echo server with the ports `http` and `httpn`."""
    labels = labels or {"app": name}
    ports = [{"name": "http", "containerPort": 8080}, {"name": "httpn", "containerPort": 8443}]
    container = {
        "name": "echo",
        "image": "vrata/echo",
        "ports": ports,
        "env": [{"name": "SERVICE_NAME", "value": name}, {"name": "VERSION", "value": version}],
        "readinessProbe": {"httpGet": {"path": "/healthz", "port": "http"}, "periodSeconds": 1},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]},
            },
        },
    }


def service(name: str, type_: str, app: str | None = None, **spec: object) -> Json:
    """A Service on port 80 of the echo server."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {
            "type": type_,
            "selector": {"app": app or name},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
            **spec,
        },
    }


def ingress(name: str, routes: dict[str, str]) -> Json:
    """An Ingress that sends each host to a Service."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {
            "ingressClassName": "vrata",
            "rules": [
                {
                    "host": host,
                    "http": {
                        "paths": [
                            {
                                "path": "/",
                                "pathType": "Prefix",
                                "backend": {"service": {"name": target, "port": {"name": "http"}}},
                            }
                        ]
                    },
                }
                for host, target in routes.items()
            ],
        },
    }
