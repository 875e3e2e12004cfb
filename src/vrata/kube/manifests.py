"""Manifests that come with the program: made from the chart by `tools/manifests`, complete but for the image.

No image is named in them: none is published under a name that everybody could trust.
"""

from importlib import resources

from vrata.base.errors import InvalidInput

IMAGE = "${IMAGE}"


def manifest(part: str, image: str | None) -> str:
    """The manifest of a part, `provider` or `ingress`; InvalidInput without an image."""
    if not image:
        remedy = "name the image of `make image` in a registry of yours: --image registry.example/vrata@sha256:…"
        raise InvalidInput("--image", "", remedy)
    return resources.files(f"vrata.{part}").joinpath("manifest.yaml").read_text().replace(IMAGE, image)
