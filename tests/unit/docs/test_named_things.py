"""What pages name exists: commands and options, targets of the Makefile, modules, files, metrics, annotations, events."""

import ast
import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from functools import cache, reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import click
import pytest
from tests.support.figures import known_metrics

from vrata.cli.main import cli
from vrata.sandbox.demo.story import STEPS

ROOT = Path(__file__).parents[3]
PAGES = [page for page in (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")) if page.name != "ingress-annotations.md"]
TARGETS = set(re.findall(r"^([a-z-]+)%?:", (ROOT / "Makefile").read_text(), re.MULTILINE))
_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`]+)`(?!`)")
# Of the kubelet, kube-proxy and pytest.
OTHERS = {"--cloud-provider", "--config", "--masquerade-all", "--durations"}

# Events of OCCM that the page of the provider says are not sent.
NOT_SENT = {
    "DeleteLoadBalancerFailed", "LoadBalancerLbMethodUnknown", "LoadBalancerRename", "UpdateLoadBalancerFailed",
    "UpdatedLoadBalancer",
}  # fmt: skip
SOURCE = [path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))]
STRINGS = {
    node.value
    for text in SOURCE
    for node in ast.walk(ast.parse(text))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
}
MANIFESTS = "".join(path.read_text() for path in (ROOT / "src").rglob("*.yaml"))
_METRIC = re.compile(
    r"\b((?:vrata|openstack_api|cloudprovider_openstack|service_controller|kubeproxy)_[a-z_]+[a-z])\b(?!_)(?:\{([^}]*)\})?"
)
_EVENT = re.compile(r"[A-Z][a-z]+(?:[A-Z][A-Za-z]+)+")


def code(page: Path) -> Iterator[str]:
    """Spans of code, and lines of commands with their continuations."""
    text = page.read_text()
    for language, block in _FENCE.findall(text):
        if language == "sh":
            yield from block.replace("\\\n", " ").splitlines()
    yield from (" ".join(span.split()) for span in _SPAN.findall(_FENCE.sub("", text)))


def options(command: click.Command) -> set[str]:
    """All spellings of a command's options."""
    own = {name for one in command.params if isinstance(one, click.Option) for name in (*one.opts, *one.secondary_opts)}
    return own | {"--help", "-h", "--version"}


def all_options(command: click.Command) -> set[str]:
    """With those of its subcommands."""
    found = options(command)
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found |= all_options(command.get_command(context, name) or command)
    return found


def wrong_command(line: str) -> str:
    """What is wrong with the first `vrata` of a line; empty if nothing is."""
    if line.lstrip().startswith("helm "):  # the release's name
        return ""
    try:
        words = shlex.split(re.split(r"[|;)]|2>", line.partition("vrata ")[2])[0])
    except ValueError:  # a quote that is closed elsewhere
        return ""
    command: click.Command = cli
    if words[:1] == ["--config"]:  # of `vrata` itself, with its value
        del words[:2]
    while words and isinstance(command, click.Group) and not words[0].startswith("-"):
        found = command.get_command(click.Context(command), words[0])
        if not found:
            break
        command = found
        if words.pop(0) == "exec":  # what follows is another program's
            return ""
    if command is cli and words and re.fullmatch(r"[a-z][a-z-]*", words[0]):
        return f"no command {words[0]}"
    used = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)}
    return ", ".join(sorted(used - options(command)))


def is_there(name: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        try:
            if importlib.util.find_spec(module):
                reduce(getattr, parts[length:], importlib.import_module(module))
                return True
        except (ModuleNotFoundError, AttributeError):
            continue
    return False


@cache
def metrics() -> dict[str, frozenset[str]]:
    """Labels by name, as the registries of all parts have them."""
    with TemporaryDirectory() as folder:
        return known_metrics(Path(folder))


def is_metric(name: str, labels: str = "") -> bool:
    """Whether a part has it, with these labels; of a histogram the name alone is enough."""
    found = next((known for one in (name, f"{name}_count") if (known := metrics().get(one)) is not None), None)
    return found is not None and set(re.findall(r"[a-z_]+(?=[,=]|$)", re.sub('"[^"]*"', '""', labels))) <= found


def is_said(name: str) -> bool:
    """Whether an event, a kind or another word of an API is a string of the source, or a part of one."""
    return name in NOT_SENT or any(name in text for text in SOURCE)


def is_annotation(name: str) -> bool:
    """Whether the source or a manifest has it."""
    return name in STRINGS or name.partition("/")[2] in STRINGS or name in MANIFESTS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    wrong = []
    for line in code(page):
        if re.match(r"(?:.*[\s(])?vrata [a-z-]", line) and (problem := wrong_command(line)):
            wrong.append(f"{line}: {problem}")
        wrong += [f"make {one}" for one in re.findall(r"\bmake ([a-z][a-z-]*)", line) if not is_target(one)]
        wrong += [one for one in re.findall(r"\bvrata(?:\.[a-z_A-Z]+)+(?![\w./-])", line) if not is_there(one)]
        if match := re.fullmatch(r"(?:\.\./)?((?:src|docs|tests|tools|deploy|bench)/[\w./-]+)", line):
            wrong += [] if (ROOT / match[1]).exists() or list(ROOT.glob(f"{match[1]}.py")) else [line]
        wrong += [f"{one}{{{labels}}}" for one, labels in _METRIC.findall(line) if not is_metric(one, labels)]
        wrong += [one for one in re.findall(r"\bvrata\.dev/[a-z-]+", line) if not is_annotation(one)]
        wrong += [line] if _EVENT.fullmatch(line) and not is_said(line) else []
        if match := re.fullmatch(r"(--[a-z][a-z-]*)(?:[ =].*)?", line):
            wrong += [] if match[1] in KNOWN else [line]
    assert wrong == []


KNOWN = all_options(cli) | OTHERS


def is_target(name: str) -> bool:
    """Of the Makefile, `bench-…` included."""
    return name in TARGETS or any(one.endswith("-") and name.startswith(one) for one in TARGETS)


def test_what_is_not_there_would_be_noticed() -> None:
    assert wrong_command("vrata up --hosts 3 | grep --none") == ""
    assert wrong_command("x=$(vrata top --once --none)") == "--none"
    assert wrong_command("vrata --config cloud.toml cloud host-token --none a") == "--none"
    assert wrong_command("vrata upp") == "no command upp"
    assert wrong_command("vrata exec client curl --none") == ""
    assert is_there("vrata.net.command.inside")
    assert not is_there("vrata.net.command.outside")
    assert is_target("bench-failover")
    assert not is_target("benches")
    assert is_metric("vrata_cloud_write_processor_seconds")
    assert not is_metric("vrata_cloud_write_seconds")
    assert is_metric("vrata_cloud_hosts", 'alive="true"')
    assert is_metric("vrata_cloud_requests_total", "api,method")
    assert not is_metric("vrata_cloud_hosts", "host")
    assert is_annotation("vrata.dev/target")
    assert not is_annotation("vrata.dev/tarjet")
    assert is_said("HostConflict")
    assert not is_said("Host" + "Conflicts")


def test_the_steps_of_the_demo_are_those_that_readme_shows() -> None:
    titles = {f"{number}. {title}" for number, (title, _) in enumerate(STEPS, 1)}
    shown = set(re.findall(r"^[1-9]\. .+$", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert shown
    assert shown <= titles
