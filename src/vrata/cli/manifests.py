"""Objects in manifests, as kubectl reads them: several documents, lists of any kind, and no key twice."""

from typing import Any, NamedTuple

import yaml

from vrata.base.errors import InvalidInput


class Manifest(NamedTuple):
    """An object, and what of its text kubectl refuses though it can be read."""

    body: dict[str, Any]
    torn: tuple[str, ...] = ()


class _Loader(yaml.SafeLoader):
    """Notes keys that a mapping has twice: YAML forbids them (1.2, 3.2.1.1), and the last one would win in silence."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.twice: list[str] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        known: set[str] = set()
        for key, _ in node.value:
            text = key.value if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge") else None
            if text in known:
                line = key.start_mark.line + 1
                self.twice.append(f"line {line}: the key {text[:80]!r} is there twice, which kubectl refuses; keep one")
            known |= {text} if text is not None else set()
        return super().construct_mapping(node, deep)


def read_manifests(file: str, text: str) -> list[Manifest]:
    """The objects of a text; `file` is for the error, InvalidInput, of one that is no YAML."""
    found: list[Manifest] = []
    try:
        loader = _Loader(text)
        while loader.check_data():  # type: ignore[no-untyped-call]
            loader.twice = []
            document = loader.get_data()
            found += [Manifest(body, tuple(loader.twice)) for body in _objects(document)]
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        said = " ".join(str(error).split())
        raise InvalidInput("--filename", file, f"give YAML or JSON manifests ({said})") from error
    return found


def _objects(document: object) -> list[dict[str, Any]]:
    """Itself, or the items of a list; those of a list of one kind need not say theirs."""
    if not isinstance(document, dict):
        return []
    kind, items = document.get("kind"), document.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and "items" in document):
        return [document]
    of = {"kind": kind.removesuffix("List"), "apiVersion": document.get("apiVersion")} if kind != "List" else {}
    given = items if isinstance(items, list) else []
    return [one for item in given if isinstance(item, dict) for one in _objects({**of, **item})]
