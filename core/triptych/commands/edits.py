"""Verbs that write a checkpoint: convert."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from triptych.commands import app, errors_as_messages, progress_bar


class Dtype(StrEnum):
    """The floating types that a conversion can write."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


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
    with errors_as_messages():
        from triptych import converting
        from triptych.safetensors_file import parse_size

        parse_size(max_shard_size)
        conversion = converting.prepare(source, destination, dtype.value)
        with progress_bar("Converting", conversion.nbytes) as advance:
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
