"""A configuration file in TOML for any command: its sections are commands, its keys their options.

    [cloud.serve]
    listen = ["0.0.0.0:8780"]
    tls-cert = "/etc/vrata/pki/server.crt"

An option that several commands of a group have may stand once in the group's section. What the command line or the
environment says wins. A key or section that no command has is an error.
"""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from vrata.base.errors import InvalidInput

Defaults = dict[str, Any]


def read(path: Path, root: click.Group) -> Defaults:
    """Defaults for click's contexts (`default_map`). InvalidInput names the file and the key."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise InvalidInput("--config", str(path), f"name a file that can be read ({reason})") from error
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput("--config", str(path), f"write TOML ({error})") from error
    context = click.Context(root, info_name="vrata")
    return _section(path, root, context, content, "")


def _section(
    path: Path, command: click.Command, context: click.Context, content: Mapping[str, Any], at: str
) -> Defaults:
    """What a command's section says, and the sections of the commands below it."""
    options = {name: one for one in command.params if isinstance(one, click.Option) for name in _names(one)}
    below = {}
    if isinstance(command, click.Group):
        below = {name: command.get_command(context, name) for name in command.list_commands(context)}
    found: Defaults = {}
    shared = {}
    for key, value in content.items():
        place = f"{at}.{key}".lstrip(".")
        one = below.get(key)
        if one is not None and isinstance(value, dict):
            found[key] = found.get(key, {}) | _section(path, one, click.Context(one, context, key), value, place)
        elif key in options:
            found[str(options[key].name)] = _value(path, place, options[key], value)
        elif any(key in _names(option) for sub in below.values() if sub for option in sub.params):
            shared[key] = value
        else:
            raise InvalidInput("--config", str(path), _unknown(place, key, [*options, *below]))
    for name, sub in below.items():
        theirs = {key: value for key, value in shared.items() if sub and any(key in _names(one) for one in sub.params)}
        if sub and theirs:
            read_ = _section(path, sub, click.Context(sub, context, name), theirs, at)
            found[name] = read_ | found.get(name, {})
    return found


def _names(parameter: click.Parameter) -> tuple[str, ...]:
    """Of an option, as the file writes them: without dashes before."""
    words = (*parameter.opts, *parameter.secondary_opts) if isinstance(parameter, click.Option) else ()
    return tuple(word.removeprefix("--") for word in words if word.startswith("--"))


def _value(path: Path, place: str, option: click.Option, value: Any) -> Any:
    """As the command line would give it; click converts and checks it."""
    if option.is_flag:
        if isinstance(value, bool):
            return value
        raise InvalidInput("--config", str(path), f"{place}: write true or false")
    values = value if isinstance(value, list) else [value]
    if any(isinstance(one, bool | dict | list) for one in values) or (len(values) != 1 and not option.multiple):
        raise InvalidInput(
            "--config", str(path), f"{place}: write {'a list of texts' if option.multiple else 'one text'}"
        )
    texts = [str(one) for one in values]
    return texts if option.multiple else texts[0]


def _unknown(place: str, key: str, known: list[str]) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"{place}: there is no such option; {f'did you mean {near[0]}?' if near else 'see --help of the command'}"
