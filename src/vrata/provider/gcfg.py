"""The syntax of cloud.conf: git's flavour of INI (gcfg), as the OpenStack cloud controller reads it.

Sections with an optional quoted name, `key = value`, `;` and `#` begin a comment outside quotes, `\\"`, `\\\\`, `\\n` and
`\\t` are escapes, a backslash at the end of a line continues it, a key without `=` has no value. What the keys mean is
`vrata.provider.conf`'s business. Errors never show a value: it may be a password.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from vrata.base.errors import InvalidInput

_BLANK = re.compile(r"(?:\s+|[;#][^\n]*)*")
_REST = re.compile(r"[ \t\r]*(?:[;#][^\n]*)?(?=\n|\Z)")
_SECTION = re.compile(r'\[[ \t]*([A-Za-z0-9.-]+)[ \t]*(?:"((?:[^"\\\n]|\\["\\])*)"[ \t]*)?\]')
_KEY = re.compile(r"([A-Za-z][A-Za-z0-9-]*)[ \t]*(?:(=)[ \t]*)?")
_VALUE = re.compile(r'(?:[^"\\;#\n]|\\\r?\n|\\[^\r\n]|"(?:[^"\\\n]|\\\r?\n|\\[^\r\n])*")*')
_PART = re.compile(r'"(?P<quoted>(?:[^"\\]|\\\r?\n|\\[^\r\n])*)"|(?P<bare>(?:[^"\\]|\\\r?\n|\\[^\r\n])+)')
_ESCAPE = re.compile(r"\\(\r?\n|[^\r\n])")
_ESCAPED = {"n": "\n", "t": "\t", '"': '"', "\\": "\\", "\n": "", "\r\n": ""}


@dataclass(frozen=True)
class Entry:
    """One key where it stands: section and key in lower case, `name` of the section as written, the line from 1.

    `value` is None for a key without `=`; `key` is empty for the section's own header.
    """

    section: str
    name: str | None
    key: str
    value: str | None
    line: int


def parse(text: str) -> Iterator[Entry]:
    """Yield the entries in their order; InvalidInput names the line that is not gcfg."""
    text = text.removeprefix("\ufeff")
    position, section, name = 0, "", None
    while (position := _end(_BLANK, text, position)) < len(text):
        line = text.count("\n", 0, position) + 1
        if header := _SECTION.match(text, position):
            section, name = header[1].lower(), header[2]
            name = None if name is None else re.sub(r"\\(.)", r"\1", name)
            yield Entry(section, name, "", None, line)
            position = header.end()
        elif not (key := _KEY.match(text, position)):
            raise _wrong(line, "want [section] or key=value")
        elif not section:
            raise _wrong(line, "a [section] must come before the first key")
        else:
            position, value = key.end(), None
            if key[2]:
                end = _end(_VALUE, text, position)
                value, position = _decoded(text[position:end], line), end
            yield Entry(section, name, key[1].lower(), value, line)
        if not (rest := _REST.match(text, position)):
            raise _wrong(line, "close the quotes, and put nothing after the value but a comment")
        position = rest.end()


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    found = pattern.match(text, position)
    assert found  # every caller's pattern matches the empty string
    return found.end()


def _decoded(raw: str, line: int) -> str:
    """The value without quotes, escapes and the blanks around what is not quoted."""
    parts = [(part["quoted"], part["bare"]) for part in _PART.finditer(raw)]
    if parts and parts[-1][0] is None:
        parts[-1] = (None, _without_blanks_at_the_end(parts[-1][1]))

    def escaped(found: re.Match[str]) -> str:
        if found[1] not in _ESCAPED:
            raise _wrong(line, f"\\{found[1]} means nothing; write \\\\ for a backslash")
        return _ESCAPED[found[1]]

    return "".join(_ESCAPE.sub(escaped, bare if quoted is None else quoted) for quoted, bare in parts)


def _without_blanks_at_the_end(bare: str) -> str:
    cut = bare.rstrip(" \t\r")
    return cut + " " if cut != bare and re.search(r"(?<!\\)(?:\\\\)*\\\Z", cut) else cut


def _wrong(line: int, remedy: str) -> InvalidInput:
    return InvalidInput("cloud.conf", f"line {line}", remedy)
