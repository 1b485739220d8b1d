"""The verbs of the command line, and what they share: messages for errors, the progress bar, exit status.

Imports `tools` and what is below.

Each verb is one function; what it needs is imported when it runs, so that `--help` is quick.
Exit status: 0 done, 1 the input is damaged, unsupported or differs, or the output cannot be written, 2 wrong usage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


@app.callback()
def triptych() -> None:
    """Models for PyTorch, TensorFlow and Flax from the same files."""


@contextmanager
def errors_as_messages() -> Iterator[None]:
    """Print an error of triptych or of the system as one message on stderr, and exit with its status."""
    from triptych.errors import ArgumentError, TriptychError

    try:
        yield
    except (TriptychError, OSError) as error:
        typer.echo(f"triptych: {printable(error)}", err=True)
        raise typer.Exit(2 if isinstance(error, ArgumentError) else 1) from error


def printable(value: object) -> str:
    """Return `value` as text without what would steer a terminal; names come from files that anybody may have made."""
    return "".join(char if char.isprintable() else " " for char in str(value))


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with bytes and rate on stderr, if that is a terminal; yield what is called with bytes done."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    quiet = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(title, total=total)
        yield lambda nbytes: progress.advance(task, nbytes)


@contextmanager
def steps_bar(title: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar of steps on stderr, if that is a terminal; yield what is told a step, those done, and all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(title, total=None)

        def show(step: str, done: int, of: int) -> None:
            progress.update(task, description=printable(step).replace("[", "\\["), completed=done, total=of)

        yield show
