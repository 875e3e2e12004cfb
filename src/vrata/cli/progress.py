"""What long commands print while they run: one line a step, with the time at which it begins, also without a terminal."""

import time

import click


def show(title: str) -> None:
    """Say what begins now."""
    click.echo(f"  {time.strftime('%H:%M:%S')}  {title}")
