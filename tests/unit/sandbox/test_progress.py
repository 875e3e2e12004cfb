"""Nobody waits in front of a silent `vrata up` or `vrata down`: each step is announced before it begins."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Iterator

import pytest

from vrata.sandbox.lifecycle import Sandbox


def announces(statement: ast.stmt) -> bool:
    match statement:
        case ast.Expr(value=ast.Call(func=ast.Name(id="progress"), args=[ast.Constant()])):
            return True
    return False


def in_order(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements, with those of branches and of `try` in place of these."""
    for statement in body:
        match statement:
            case ast.If(body=inner, orelse=rest) | ast.Try(body=inner, finalbody=rest):
                yield from in_order([*inner, *rest])
            case _:
                yield statement


@pytest.mark.parametrize("command", [Sandbox.up, Sandbox.down])
def test_whatever_takes_time_is_announced_by_a_line_of_its_own(command: Callable[..., object]) -> None:
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(command))).body
    assert isinstance(function, ast.AsyncFunctionDef)
    announced, steps = False, 0
    for statement in in_order(function.body):
        if announces(statement):
            announced = True
        elif any(isinstance(node, ast.Await) for node in ast.walk(statement)):
            assert announced, f"nothing is printed before {ast.unparse(statement)}"
            announced, steps = False, steps + 1
    assert steps > 1
