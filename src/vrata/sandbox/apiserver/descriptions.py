"""What Kubernetes says of its types and their fields, for `kubectl explain`.

Read from the docstrings of `lightkube-models`, which are made from Kubernetes' OpenAPI document. Its modules are not
imported: they need a whole client.
"""

import ast
import functools
import re
from importlib import resources

_FIELDS = "**parameters**"
_FIELD = re.compile(r"^ *\* \*\*(\w+?)_?\*\* ``.*?`` - ", re.MULTILINE)


def describe(name: str) -> dict[str, str]:
    """The text of a component of the OpenAPI document, under "", and of each of its fields; empty for what is not known."""
    group, version, kind = ["", "", *name.split(".")][-3:]
    module = f"meta_{version}" if ".apimachinery." in name else f"{group}_{version}"
    text, _, fields = _docstrings(module).get(kind, "").partition(_FIELDS)
    parts = _FIELD.split(fields)
    found = {"": text, **dict(zip(parts[1::2], parts[2::2], strict=True))}
    return {field: _in_one_line(said) for field, said in found.items() if said.strip()}


@functools.cache
def _docstrings(module: str) -> dict[str, str]:
    file = resources.files("lightkube.models").joinpath(f"{module}.py")
    if not file.is_file():
        return {}
    classes = (node for node in ast.parse(file.read_text()).body if isinstance(node, ast.ClassDef))
    return {node.name: ast.get_docstring(node) or "" for node in classes}


def _in_one_line(text: str) -> str:
    """Without line breaks: kubectl makes its own."""
    return " ".join(text.split())
