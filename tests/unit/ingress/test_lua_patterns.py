"""Patterns of Lua programs are matched against text that clients and pods choose: none may backtrack.

Lua's matcher tries a pattern without `^` from each position, and a repeated item with each of its lengths (Lua 5.3 manual,
section 6.4.1). Work is linear in the text if

- the pattern is anchored, or only its last item repeats, or nothing that repeats can match what the pattern begins with;
- what follows a repeated item, up to the first item that must be there, matches no character of it, unless what follows is
  the last item and matches everything.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import pytest

import vrata

PROGRAMS = sorted(Path(str(resources.files(vrata))).rglob("*.lua"))
_CALL = re.compile(r"[:.](?:match|gmatch|gsub|find)\s*\(")
_LITERAL = re.compile(r'\s*"((?:[^"\\]|\\.)*)"')
_WITH_TEXT_BEFORE = re.compile(r"\bstring\.(?:match|gmatch|gsub|find)\b")
_ESCAPES = {r"\t": "\t", r"\n": "\n", r"\\": "\\", r"\"": '"'}
_PLAIN = re.compile(r'\s*"(?:[^"\\]|\\.)*", [\w. +]+, true\)')
_DECIMAL = re.compile(r"\\(\d{1,3})")
_CHARS = [chr(code) for code in range(256)]
CLASSES: dict[str, Callable[[str], bool]] = {
    "a": str.isalpha, "d": str.isdigit, "l": str.islower, "u": str.isupper, "w": str.isalnum,
    "s": lambda char: char in " \t\n\v\f\r", "c": lambda char: ord(char) < 32 or ord(char) == 127,
    "x": lambda char: char in "0123456789abcdefABCDEF",
    "p": lambda char: char.isprintable() and not char.isalnum() and char != " ",
}  # fmt: skip
ALL = frozenset(_CHARS)


@dataclass(frozen=True)
class Item:
    """Characters of one position, and how often: exactly once, `?`, or a repetition (`*`, `+`, `-`)."""

    chars: frozenset[str]
    times: str

    @property
    def repeats(self) -> bool:
        return self.times in ("*", "+", "-")

    @property
    def needed(self) -> bool:
        return self.times in ("", "+")


def class_of(letter: str) -> frozenset[str]:
    if letter.lower() in CLASSES:
        found = frozenset(char for char in _CHARS if char.isascii() and CLASSES[letter.lower()](char))
        return ALL - found if letter.isupper() else found
    return frozenset(letter)


def parse(pattern: str) -> tuple[bool, list[Item], bool]:
    """Whether it is anchored, its items, and whether the text must end after them."""
    anchored, at, items = pattern.startswith("^"), 0, []
    text = pattern.removeprefix("^")
    ends = text.endswith("$") and not text.endswith("%$")
    text = text.removesuffix("$") if ends else text
    while at < len(text):
        char = text[at]
        if char in "()":  # captures: what is in them is matched as without
            at += 1
            continue
        if char == "%":
            assert text[at + 1] not in "bf0123456789", f"{pattern}: %b, %f and back-references are not for such text"
            chars, at = class_of(text[at + 1]), at + 2
        elif char == "[":
            chars, at = read_set(text, at)
        else:
            chars, at = (ALL if char == "." else frozenset(char)), at + 1
        times = text[at] if at < len(text) and text[at] in "*+-?" else ""
        items.append(Item(chars, times))
        at += len(times)
    return anchored, items, ends


def read_set(text: str, at: int) -> tuple[frozenset[str], int]:
    at += 1
    negated = text[at] == "^"
    at += negated
    found: frozenset[str] = frozenset()
    while text[at] != "]":
        if text[at] == "%":
            found, at = found | class_of(text[at + 1]), at + 2
        elif text[at + 1] == "-" and text[at + 2] != "]":
            found, at = found | {chr(code) for code in range(ord(text[at]), ord(text[at + 2]) + 1)}, at + 3
        else:
            found, at = found | {text[at]}, at + 1
    return (ALL - found if negated else found), at + 1


def fault(pattern: str) -> str:
    """Why a pattern could take more than linear time; empty if it cannot."""
    anchored, items, ends = parse(pattern)
    repeated = [number for number, item in enumerate(items) if item.repeats]
    apart = bool(items) and items[0].times == "" and all(not items[0].chars & items[one].chars for one in repeated)
    last_only = repeated in ([], [len(items) - 1]) and not (repeated and ends)
    if not anchored and not apart and not last_only:
        return "it is tried from each position, and repeats before its end"
    for number in repeated:
        for place, item in enumerate(items[number + 1 :], number + 1):
            always = place == len(items) - 1 and item.times == "*" and (not ends or item.chars == ALL)
            if always:
                break
            if item.chars & items[number].chars:
                return f"item {number + 1} can end in more than one way before item {place + 1}"
            if item.needed:
                break
    return ""


def patterns_of(program: Path) -> list[str]:
    """Every pattern of a program; a pattern that is no literal fails."""
    text, found = program.read_text(), []
    assert not _WITH_TEXT_BEFORE.search(text), "write text:match(…), which this test can read"
    for call in _CALL.finditer(text):
        literal = _LITERAL.match(text, call.end())
        line = text[: call.start()].count("\n") + 1
        if literal:
            written = literal[1]
            for escape, char in _ESCAPES.items():
                written = written.replace(escape, char)
            if not _PLAIN.match(text, call.end()):
                found.append(_DECIMAL.sub(lambda code: chr(int(code[1])), written))
        else:
            rest = text[call.end() : text.index("\n", call.end())]
            plain = call[0].startswith(":find") and re.match(r"[^()]*, [\w.]+, true\)", rest)
            assert plain, f"{program.name}:{line}: write the pattern as a literal, or look for plain text"
    return found


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda path: path.name)
def test_no_pattern_of_a_program_backtracks(program: Path) -> None:
    found = patterns_of(program)
    assert found
    assert {pattern: fault(pattern) for pattern in found if fault(pattern)} == {}


@pytest.mark.parametrize(
    "pattern",
    ["([^=;%s]+)=([^;]*)", "^%.?(.-)%s*$", "(%S-)=(%S*)", "[^:]+$", "^a*a*$", "(a+)b", "^(%w+)%s*%w+=", ".-x", "x.*y"],
)
def test_the_shapes_that_backtrack_are_found(pattern: str) -> None:
    assert fault(pattern)


@pytest.mark.parametrize(
    "pattern", ["[^,]+", "%%(%x%x)", "^([^:]*):(.*)$", "(;%s*(%a+)%s*=%s*)([^;]*)", "^(s%-[%w-]+)(~?)$"]
)
def test_the_shapes_that_do_not_backtrack_pass(pattern: str) -> None:
    assert not fault(pattern)
