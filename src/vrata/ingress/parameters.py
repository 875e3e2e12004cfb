"""What holds for every Ingress of a class that does not say otherwise: annotations out of the class' parameters.

`spec.parameters` of an IngressClass (Kubernetes documentation, «Ingress class scope») names a ConfigMap of the controller's
own namespace; its keys are annotations without a prefix.
"""

from collections.abc import Iterable, Mapping

from vrata.ingress.annotations.parse import NGINX
from vrata.ingress.claims import class_name
from vrata.ingress.model import Problem
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.objects import ConfigMap, Ingress, IngressClass, IngressClassParameters


def key_of(parameters: IngressClassParameters | None) -> str:
    """`namespace/name` of the ConfigMap; empty for none, or for another kind of object."""
    if parameters is None or parameters.kind != "ConfigMap" or parameters.api_group:
        return ""
    return f"{parameters.namespace}/{parameters.name}"


def defaults_of(
    ingress: Ingress, classes: Mapping[str, IngressClass], config_maps: Mapping[str, ConfigMap]
) -> tuple[dict[str, str], Problem | None]:
    """Annotations, and what is wrong with the class' parameters; the Ingress is served without them then."""
    found = classes.get(class_name(ingress, classes))
    parameters = found.spec.parameters if found else None
    if found is None or parameters is None:
        return {}, None
    config_map = config_maps.get(key_of(parameters))
    if config_map is None:
        said = f"{parameters.kind} {parameters.namespace}/{parameters.name}"
        message = f"spec.ingressClassName: class {found.metadata.name} has parameters that are not there, {said}"
        remedy = "name a ConfigMap of the controller's namespace, with scope Namespace"
        return {}, Problem(ingress.metadata.key, "ParametersNotFound", f"{message}; {remedy}")
    return {f"{NGINX}{name}": text for name, text in config_map.data.items()}, None


async def read_parameters(kube: Kube, classes: Iterable[IngressClass]) -> dict[str, ConfigMap]:
    """The ConfigMaps that these classes name, by key; one that is not there is left out."""
    keys = {key_of(one.spec.parameters) for one in classes} - {""}
    found = {key: await kube.get(resources.CONFIG_MAPS, ConfigMap, *reversed(key.split("/"))) for key in sorted(keys)}
    return {key: config_map for key, config_map in found.items() if config_map}
