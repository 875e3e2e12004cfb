"""`vrata demo`: the story, told live."""

import asyncio
import sys
import time
from pathlib import Path

import click
import msgspec

from vrata.base import log
from vrata.base.errors import VrataError
from vrata.cli import progress, types

UP_GOAL_S = 15.0
MEMORY_GOAL_MIB = 1024.0


@click.command(epilog="Example: vrata demo --keep   (leaves the sandbox `demo` running if a step fails)")
@click.option(
    "--name", type=types.SANDBOX, default="demo", show_default=True, help="Name of the sandbox to bring up for it."
)
@click.option("--output", type=click.Path(path_type=Path), default=Path("build/demo.json"), show_default=True)
@click.option("--keep", is_flag=True, help="Leave the sandbox running when a step fails, to look at.")
def command(name: str, output: Path, *, keep: bool) -> None:
    """Show every feature live, step by step; ends with 1 if a step fails or a figure other than a time misses its goal.

    Times that miss their goals are shown: the machine may be slow.
    """
    log.configure()
    sys.exit(0 if asyncio.run(tell(name, output, keep=keep)) else 1)


async def tell(name: str, output: Path, *, keep: bool) -> bool:
    """Bring up a sandbox, go through the steps, write the figures; False if something was not true."""
    from vrata.sandbox.demo.stage import Stage
    from vrata.sandbox.demo.story import STEPS, idle_memory_mib
    from vrata.sandbox.lifecycle import Sandbox
    from vrata.sandbox.model import Options

    stage = Stage(Sandbox(Options(name=name)), say=click.echo)
    steps: list[dict[str, object]] = []
    true = True
    try:
        begun = time.monotonic()
        click.secho("0. one command brings up a cloud and a cluster", bold=True)
        await stage.sandbox.up(progress.show)
        stage.figure("up", time.monotonic() - begun, "s", UP_GOAL_S)
        stage.figure("idle_memory", idle_memory_mib(stage), "MiB", MEMORY_GOAL_MIB)
        for number, (title, step) in enumerate(STEPS, 1):
            click.secho(f"\n{number}. {title}", bold=True)
            begun = time.monotonic()
            await step(stage)
            took = time.monotonic() - begun
            click.echo(f"  ✓ {took:.1f} s")
            steps.append({"step": number, "title": title, "seconds": round(took, 2), "true": True})
    except VrataError as error:
        click.secho(f"  ✗ {error}", fg="red")
        steps.append({"step": len(steps) + 1, "true": False, "error": str(error)})
        true = False
    finally:
        if stage.sandbox.paths.root.exists() and not keep:
            await stage.sandbox.down()
    missed = [figure.id for figure in stage.figures if not figure.met and not figure.slow]
    slow = [figure.id for figure in stage.figures if figure.slow]
    rows = [
        {"id": figure.id, "value": figure.value, "unit": figure.unit, "goal": figure.goal, "met": figure.met}
        for figure in stage.figures
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_bytes(msgspec.json.format(msgspec.json.encode({"figures": rows, "steps": steps}), indent=2) + b"\n")
    if missed:
        click.secho(f"figures missed: {', '.join(missed)}", fg="red")
    if slow:
        click.secho(f"slower than their goals on this machine: {', '.join(slow)}", fg="yellow")
    ok = true and not missed
    click.secho(f"\ndemo: {'ok' if ok else 'FAILED'}", bold=True, fg="green" if ok else "red")
    return ok
