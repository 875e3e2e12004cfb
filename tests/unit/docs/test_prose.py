"""Prose for readers is plain: README, pages, `--help` and messages are spelled right and use the field's words.

Not looked at: code in pages, and in the source everything but help texts and strings that are sentences.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from vrata.cli.main import cli

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
SOURCE = ROOT / "src/vrata"
PAGES = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")))
WORDS_OF_A_SENTENCE = 3
LONGEST_SENTENCE = 45
_CODE = re.compile(
    r"^ *(```|~~~).*?^ *\1 *$|(`+)(?!`).+?(?<!`)\2(?!`)|\]\([^)\s]*\)|<!--.*?-->", re.MULTILINE | re.DOTALL
)
_VOCABULARY = tomllib.loads((HERE / "vocabulary.toml").read_text())["word"]
_NOT = [(re.compile(rf"(?<![\w-])(?:{one['not']})(?![\w-])", re.IGNORECASE), one["but"]) for one in _VOCABULARY]


@dataclass(frozen=True)
class Text:
    """Some prose and where it stands."""

    where: str
    text: str


def without_code(page: str) -> str:
    """The page with code and targets of links taken out; lines stay."""
    return _CODE.sub(lambda one: "code" + "\n" * one[0].count("\n"), page)


def of_pages() -> Iterator[Text]:
    """Line by line, with the next one, so that two words on two lines are found."""
    for page in PAGES:
        lines = without_code(page.read_text()).splitlines()
        for number, (line, following) in enumerate(zip(lines, [*lines[1:], ""], strict=True), 1):
            yield Text(f"{page.relative_to(ROOT)}:{number}", f"{line} {following.lstrip().partition(' ')[0]}")


def sentences(page: str) -> Iterator[str]:
    """Sentences of running text and of items of lists, without tables and code."""
    for paragraph in re.split(r"\n\n|\n(?= *(?:[-|#]|\d+\.) )|\n(?=\|)", without_code(page)):
        if not paragraph.startswith("|"):
            yield from re.split(r"(?<=[.:!?;]) (?=\S)|(?<=[.:!?]\)) (?=[A-Z])", " ".join(paragraph.split()))


def of_help(command: click.Command, path: str) -> Iterator[Text]:
    """Help of a command, its options and its subcommands."""
    for text in (command.help, command.epilog, command.short_help):
        yield Text(f"{path} --help", text or "")
    for option in command.params:
        yield Text(f"{path} {option.name}", getattr(option, "help", None) or "")
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found
            yield from of_help(found, f"{path} {name}")


def of_messages(source: str, name: str) -> Iterator[Text]:
    """Strings that are sentences, with `…` for values; docstrings are not."""
    tree = ast.parse(source)
    inside: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):  # a docstring
            inside.add(node.value)
        if isinstance(node, ast.JoinedStr):
            inside.update(node.values)
    for node in ast.walk(tree):
        if node in inside and not isinstance(node, ast.JoinedStr):
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if len(re.findall(r"[A-Za-z]+", text)) >= WORDS_OF_A_SENTENCE and " " in text:
            yield Text(f"{name}:{node.lineno}", without_code(text))


def faults(texts: Iterator[Text]) -> list[str]:
    """Each word of the vocabulary that a text has, and what to write instead."""
    found = {
        f"{one.where}: «{hit[0]}»: write {but}"
        for one in texts
        for words, but in _NOT
        for hit in words.finditer(one.text)
    }
    return sorted(found)


def all_messages() -> Iterator[Text]:
    """Of every module."""
    for path in sorted(SOURCE.rglob("*.py")):
        yield from of_messages(path.read_text(), str(path.relative_to(ROOT)))


def of_manifests() -> Iterator[Text]:
    """Comments of manifests, which administrators read."""
    for path in sorted((*ROOT.glob("deploy/*.yaml"), *SOURCE.rglob("*.yaml"))):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            yield Text(f"{path.relative_to(ROOT)}:{number}", line.partition("#")[2])


def test_pages_use_the_fields_words() -> None:
    assert faults(of_pages()) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_sentences_are_not_too_long(page: Path) -> None:
    """A colon or a semicolon ends one, as a reader breathes there."""
    assert [one for one in sentences(page.read_text()) if len(one.split()) > LONGEST_SENTENCE] == []


def test_help_uses_the_fields_words() -> None:
    assert faults(of_help(cli, "vrata")) == []


def test_messages_use_the_fields_words() -> None:
    assert faults(all_messages()) == []


def test_manifests_use_the_fields_words() -> None:
    assert faults(of_manifests()) == []


def test_spelling() -> None:
    """In pages, and in the source with its help, messages, comments and docstrings; exceptions are in pyproject.toml."""
    program = Path(sys.executable).with_name("codespell")
    done = subprocess.run(
        [program, *PAGES, SOURCE, ROOT / "deploy"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_word_of_the_vocabulary_would_be_noticed() -> None:
    source = 'def f(x):\n    """It can not."""\n    raise E(f"{x} can not go\\non", y="can not")\n'
    assert faults(of_messages(source, "a.py")) == ["a.py:3: «can not»: write cannot"]
    command = click.Command("x", help="Carry it.", params=[click.Option(["--y"], help="It shall be `usable`.")])
    assert [fault.partition(": write")[0] for fault in faults(of_help(command, "vrata"))] == [
        "vrata --help: «Carry»", "vrata y: «shall»", "vrata y: «usable»",
    ]  # fmt: skip
    assert without_code("a `can not` [b](shall.md)\n```sh\nshall\n```\n").split() == ["a", "code", "[bcode", "code"]


@pytest.mark.parametrize("word", _VOCABULARY, ids=lambda word: word["not"])
def test_the_vocabulary_does_not_advise_what_it_forbids(word: dict[str, str]) -> None:
    assert faults(iter([Text("but", word["but"])])) == []
