"""What an expression of PromQL names; whether it is one, promtool says."""

import re
import shutil
from collections.abc import Iterator, Mapping

PROMTOOL = shutil.which("promtool") or ""
# Labels that Prometheus itself adds.
ADDED = {"instance", "job", "namespace", "pod"}
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_NAME = re.compile(r"\b([a-z]+_[a-z_]+)\b(?:\{([^}]*)\})?")
_FUNCTIONS = {"histogram_quantile", "label_replace", "count_values", "group_left", "group_right"}
_GROUPED = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right) *\(([^)]*)\)")


def metrics_in(expression: str, known: Mapping[str, object]) -> Iterator[tuple[str, frozenset[str]]]:
    """Each metric with the labels that it is asked for by; all of an expression's groupings are of some metric in it."""
    plain = _STRING.sub('""', expression)
    for grouped in _GROUPED.findall(plain):
        labels = {one.strip() for one in grouped.split(",") if one.strip()} - ADDED
        of_some = {label for name, _ in _NAME.findall(_GROUPED.sub("", plain)) for label in known.get(name) or ()}  # type: ignore[attr-defined]
        missing = frozenset(labels - of_some)
        if missing:
            yield "", missing
    for name, words in _NAME.findall(_GROUPED.sub("", plain)):
        if name not in _FUNCTIONS:
            yield name, frozenset(re.findall(r"(\w+) *(?:=~|!~|!=|=)", words)) - ADDED
