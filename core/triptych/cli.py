"""The command line: `triptych VERB`. One function per verb; what a verb needs is imported when it runs.

Exit status: 0 done, 1 the input is damaged or unsupported or the output cannot be written, 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich")


class Dtype(StrEnum):
    """The floating types that a conversion can write."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.callback()
def triptych() -> None:
    """Models for PyTorch, TensorFlow and Flax from the same files."""


_CONVERT_HELP = """Write SOURCE as safetensors and config.json into the folder DESTINATION.

SOURCE is a GGUF file (quantised weights become float32) or a folder with safetensors or .bin files, never changed.
DESTINATION is written in one step: if that fails, it is what it was before.
"""
_CONVERT_EXAMPLE = "Example: triptych convert model.Q4_1.gguf model --dtype bfloat16"


@app.command(help=_CONVERT_HELP, epilog=_CONVERT_EXAMPLE)
def convert(
    source: Annotated[
        Path, typer.Argument(exists=True, help="A .gguf file, or a folder with safetensors or .bin files.")
    ],
    destination: Annotated[Path, typer.Argument(file_okay=False, help="A folder; it is made if need be.")],
    dtype: Annotated[Dtype, typer.Option(help="Floating type to write; auto keeps that of each tensor.")] = Dtype.auto,
    max_shard_size: Annotated[str, typer.Option(help="Largest file, such as 5GB or 200MiB.")] = "5GB",
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    with _errors_as_messages():
        from triptych import converting
        from triptych.safetensors_file import parse_size

        parse_size(max_shard_size)
        conversion = converting.prepare(source, destination, dtype.value)
        with _progress("Converting", conversion.nbytes) as advance:
            files = conversion.run(max_shard_size, advance)
        summary = {
            "source": str(source),
            "destination": str(destination),
            "files": [file.name for file in files],
            "tensors": len(conversion.tensors),
            "parameters": conversion.num_parameters,
            "bytes": conversion.nbytes,
        }
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        count, size = conversion.num_parameters, conversion.nbytes
        typer.echo(f"{destination}: {len(conversion.tensors)} tensors, {count:,} parameters, {size:,} bytes")


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    """Print an error of triptych or of the system as one message on stderr, and exit with its status."""
    from triptych.errors import ArgumentError, TriptychError

    try:
        yield
    except (TriptychError, OSError) as error:
        text = "".join(char if char.isprintable() else " " for char in str(error))
        typer.echo(f"triptych: {text}", err=True)
        raise typer.Exit(2 if isinstance(error, ArgumentError) else 1) from error


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with bytes and rate on stderr, if that is a terminal; yield what is called with bytes done."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    quiet = not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task(title, total=total)
        yield lambda nbytes: progress.advance(task, nbytes)


def main() -> None:
    """Run the command line; the entry point of the script `triptych`."""
    app(prog_name="triptych")
