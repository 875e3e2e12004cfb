"""Every option of every command: nonsense is refused in one line that names the option, before anything is done."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from vrata.cli import types
from vrata.cli.main import COMMANDS, cli, main

# Arguments and options that take any text: names of things that are looked up, files, addresses that may be anything.
FREE = {"part", "host", "load_balancer", "machine", "url", "--filename"}
BAD = "nonsense \n value"
WRONG: dict[type[click.ParamType[Any]], tuple[str, ...]] = {
    click.types.IntParamType: ("", "x", "1.5", "nan", "-1", "9" * 30, "٣ x"),
    click.types.FloatParamType: ("", "x", "nan", "inf", "-inf", "-1", "1e999"),
    click.Choice: ("", "nonsense"),
    types.Checked: ("", BAD, "\0", "x" * 5000, "é/ü=:\t"),
}
SECONDS = ("nan", "inf", "-1", "0", "1e999", "5s")
OTHERS = {
    types.URL: ("nonsense", "ftp://x", "http://", "http://x:99999", "http://u:p@x", "http://x/?a=b", "http://[::1"),
    types.LISTEN: ("nonsense", "x:", ":", "x:y", "127.0.0.1:65536", "127.0.0.1:-1", "::1:80:", "10.0.0.300/8:80"),
    types.NETWORK: ("nonsense", "10.0.0.1/24", "10.0.0.0/33", "10.0.0.0/24,10.1.0.0/24"),
    types.KEY: ("nonsense", "/", "a/", "/b", "a/b/c"), types.UUID: ("nonsense", "1234"),
    types.DATABASE: ("nonsense", "mysql://x/y", "postgresql://x/y", "sqlite+nonsense:///x"),
    types.PORTS: ("nonsense", "9-1", "0-5", "1-70000"), types.REVISION: ("nonsense", "12345", "0001;"),
}  # fmt: skip


def commands(
    command: click.Command = cli, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


def parameters() -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    for path, command in commands():
        for parameter in command.params:
            if not getattr(parameter, "is_flag", False):
                yield path, parameter


def name_of(parameter: click.Parameter) -> str:
    return max(parameter.opts, key=len) if isinstance(parameter, click.Option) else str(parameter.name)


def wrong_values(parameter: click.Parameter) -> tuple[str, ...]:
    own = next((values for kind, values in OTHERS.items() if kind is parameter.type), ())
    if parameter.type.name == "seconds":
        own = SECONDS
    general = next((values for kind, values in WRONG.items() if isinstance(parameter.type, kind)), ())
    # An empty text is what an option says that is not given.
    return tuple(value for value in (*own, *general) if value or parameter.default != "")


def refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr(sys, "argv", ["vrata", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == 2, (arguments, said)
    assert said.out == ""
    assert said.err.count("\n") == 1, said.err
    assert "Traceback" not in said.err
    return said.err


def test_every_command_is_looked_at() -> None:
    assert {path[0] for path, _ in commands() if path} == set(COMMANDS)
    assert len(list(parameters())) > 120


def test_no_option_takes_whatever_it_is_given() -> None:
    """Texts have a type of `vrata.cli.types`; numbers have a range."""
    free = [
        (*path, name_of(parameter))
        for path, parameter in parameters()
        if parameter.type in (click.STRING, click.INT, click.FLOAT) and name_of(parameter) not in FREE
    ]
    assert free == []


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_nonsense_is_one_line_with_the_option(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, parameter in parameters():
        if path[:1] != (command,):
            continue
        for value in wrong_values(parameter):
            name = name_of(parameter)
            given = [f"{name}={value}"] if isinstance(parameter, click.Option) else ["--", value]
            said = refused([*path, *given], monkeypatch, capsys)
            assert (name if isinstance(parameter, click.Option) else name.upper()) in said, (path, value, said)
            assert len(value) < 3 or "is not" in said or "must be" in said, said


def test_an_unknown_option_or_command_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, command in commands():
        if path != ("exec",):  # what follows belongs to the command inside
            assert "--nonsense" in refused([*path, "--nonsense"], monkeypatch, capsys)
        if isinstance(command, click.Group):
            assert "nonsense" in refused([*path, "nonsense"], monkeypatch, capsys)


SECRETS = ("password", "passwd", "sslpassword", "oauth_client_secret", "scram_client_key")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_in_a_database_address_is_never_shown(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"postgresql+psycopg://user@127.0.0.1:1/cloud?{name}=hush"
    for arguments, environment in (
        (["--database", url], ""),
        ([], url),
        ([], f"{url}&x=%zz"),
        ([], f"nonsense://{url}"),
    ):
        monkeypatch.setenv("VRATA_DATABASE", environment)
        monkeypatch.setattr(sys, "argv", ["vrata", "cloud", "migrate", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        assert ended.value.code in (1, 2)
        assert said.err.count("\n") == 1
        assert "hush" not in said.out + said.err


@pytest.mark.parametrize("command", ["reset-password", "reseal"])
def test_a_wrong_directory_is_named_and_left_alone(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys").write_text("x")
    keys = ["--secret-key-file", str(tmp_path / "keys")] if command == "reseal" else []
    said = refused(["cloud", command, "--data-dir", str(tmp_path / "wrong"), *keys], monkeypatch, capsys)
    assert "--data-dir" in said
    assert not (tmp_path / "wrong").exists()


def test_what_is_no_database_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cloud.db").write_text("x" * 5000)
    monkeypatch.setattr(sys, "argv", ["vrata", "cloud", "reset-password", "--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, said.count("\n"), "not a database" in said) == (1, 1, True)
