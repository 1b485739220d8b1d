"""Verbs that write a checkpoint: convert, reshard, cast, quantize, resize, prune, merge, of which SOURCE is never
changed, and gc."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triptych.commands import app, errors_as_messages, printable, progress_bar
from triptych.formats.kinds import FORMATS

if TYPE_CHECKING:
    from triptych.tools.editing import Draft

_GC_HELP = """Remove from FOLDER what saves that were killed have left, and finish one that had committed.

The next save does the same. Weights stay that a checkpoint in the folder names, or that no save of triptych wrote."""

Kind = StrEnum("Kind", {name: name for name in FORMATS})  # type: ignore[misc]
"""The formats that can be written."""


class Dtype(StrEnum):
    """The floating types that can be written."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    float64 = "float64"


class Codec(StrEnum):
    """How a matrix can be packed."""

    int8 = "int8"
    int4 = "int4"


_SOURCE_HELP = "A folder with weights of any format, or a .gguf file."
Source = Annotated[Path, typer.Argument(exists=True, help=_SOURCE_HELP)]
Destination = Annotated[Path, typer.Argument(file_okay=False, help="A folder; it is made if need be.")]
Format = Annotated[Kind | None, typer.Option("--format", help="What to write; by default as the source is.")]
ShardSize = Annotated[str, typer.Option("--max-shard-size", help="Largest file, such as 5GB or 200MiB.")]
Variant = Annotated[str | None, typer.Option(help="Read files with this before their suffix, such as fp16.")]
Manifest = Annotated[bool, typer.Option("--manifest", help="Write triptych_manifest.json: a SHA-256 of each tensor.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")]

_WRITTEN = """

DESTINATION is written in one step: if that fails, it is what it was before. Tokenizer files are copied along."""
_CONVERT_HELP = f"""Write SOURCE in another format, with config.json, into the folder DESTINATION.

Names and layouts follow the format: those of PyTorch (safetensors, bin), TensorFlow (h5, safetensors-tf) or Flax
(msgpack, safetensors-flax), as transformers 4 wrote them. Quantised weights of a GGUF file become float32.{_WRITTEN}"""
_RESHARD_HELP = f"Write SOURCE in files of another size.{_WRITTEN}"
_CAST_HELP = f"Write SOURCE with another floating type; integers, bool and float8 keep theirs.{_WRITTEN}"
_QUANTIZE_HELP = f"""Write SOURCE with packed matrices, of which every framework's model keeps the codes in memory.

int8 has a scale for each row, int4 one for each group of a row. config.json says which, as quantization_config.
The result is that of quantize_weights on the live model, bit for bit.{_WRITTEN}"""
_RESIZE_HELP = f"""Write SOURCE with another vocabulary size: embeddings, heads, their biases and config.json.

New rows are those of resize_token_embeddings on the live model, bit for bit.{_WRITTEN}"""
_PRUNE_HELP = f"""Write SOURCE without some attention heads; config.json remembers which.

The result is that of prune_heads on the live model, bit for bit.{_WRITTEN}"""

_MERGE_HELP = f"""Write SOURCE with the changes that ADAPTER makes: a LoRA, as peft and triptych save it.

The result is that of merge_adapter on the live model, bit for bit.{_WRITTEN}"""


@app.command(help=_CONVERT_HELP, epilog="Example: triptych convert model.Q4_1.gguf model --dtype bfloat16")
def convert(
    source: Source,
    destination: Destination,
    format: Annotated[Kind, typer.Option("--format", help="What to write.")] = Kind("safetensors"),  # noqa: B008
    dtype: Annotated[Dtype, typer.Option(help="Floating type to write; auto keeps that of each tensor.")] = Dtype.auto,
    only: Annotated[list[str] | None, typer.Option(help="Keep only tensors of these names (* and ? match).")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Leave out tensors of these names (* and ? match).")] = None,
    rename: Annotated[list[str] | None, typer.Option(metavar="OLD=NEW", help="Give a tensor another name.")] = None,
    variant: Variant = None,
    max_shard_size: ShardSize = "5GB",
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools import editing

        draft = editing.open_draft(source, variant)
        draft = editing.extract(draft, only) if only else draft
        draft = editing.drop(draft, drop) if drop else draft
        draft = editing.rename(draft, dict(map(_renaming, rename))) if rename else draft
        _write(editing.cast(draft, dtype.value), destination, format, max_shard_size, "Converting", as_json, manifest)


@app.command(help=_RESHARD_HELP, epilog="Example: triptych reshard llama llama-2gb --max-shard-size 2GB")
def reshard(
    source: Source,
    destination: Destination,
    max_shard_size: Annotated[str, typer.Option(help="Largest file, such as 5GB or 200MiB.")],
    format: Format = None,
    variant: Variant = None,
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools import editing

        _write(
            editing.open_draft(source, variant), destination, format, max_shard_size, "Resharding", as_json, manifest
        )


@app.command(help=_CAST_HELP, epilog="Example: triptych cast llama llama-bf16 --dtype bfloat16")
def cast(
    source: Source,
    destination: Destination,
    dtype: Annotated[Dtype, typer.Option(help="Floating type to write.")],
    format: Format = None,
    variant: Variant = None,
    max_shard_size: ShardSize = "5GB",
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools import editing

        draft = editing.cast(editing.open_draft(source, variant), dtype.value)
        _write(draft, destination, format, max_shard_size, "Casting", as_json, manifest)


@app.command(help=_QUANTIZE_HELP, epilog="Example: triptych quantize smollm2 smollm2-int4 --codec int4")
def quantize(
    source: Source,
    destination: Destination,
    codec: Annotated[Codec, typer.Option(help="How a matrix is packed.")] = Codec.int8,
    group_size: Annotated[int | None, typer.Option(help="Of int4: elements of a row that share a scale; 32.")] = None,
    keep: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Leave out a part, such as lm_head.")] = None,
    embeddings: Annotated[bool, typer.Option(help="Pack the embeddings of tokens too.")] = True,
    variant: Variant = None,
    max_shard_size: ShardSize = "5GB",
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools import editing

        draft = editing.quantize(editing.open_draft(source, variant), codec.value, group_size, keep or (), embeddings)
        _write(draft, destination, None, max_shard_size, "Quantising", as_json, manifest)


@app.command(help=_RESIZE_HELP, epilog="Example: triptych resize bert bert-64 --pad-to-multiple-of 64")
def resize(
    source: Source,
    destination: Destination,
    vocab_size: Annotated[int | None, typer.Option(help="Rows afterwards; by default as many as now.")] = None,
    pad_to_multiple_of: Annotated[int | None, typer.Option(help="Round the number up to a multiple.")] = None,
    mean_resizing: Annotated[bool, typer.Option(help="Draw new rows around the mean of the old.")] = True,
    seed: Annotated[int, typer.Option(help="Of the new rows.")] = 0,
    format: Format = None,
    variant: Variant = None,
    max_shard_size: ShardSize = "5GB",
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.errors import ArgumentError
        from triptych.tools import editing

        if vocab_size is None and pad_to_multiple_of is None:
            raise ArgumentError("No size is given.", expected="--vocab-size, --pad-to-multiple-of or both")
        draft = editing.open_draft(source, variant)
        draft = editing.resize(draft, vocab_size, pad_to_multiple_of, mean_resizing, seed)
        _write(draft, destination, format, max_shard_size, "Resizing", as_json, manifest)


@app.command(help=_PRUNE_HELP, epilog="Example: triptych prune bert bert-pruned --heads 0:1,3 --heads 5:0")
def prune(
    source: Source,
    destination: Destination,
    heads: Annotated[
        list[str], typer.Option(metavar="LAYER:HEAD,...", help="Heads to remove, from 0, by layer; -1 is the last.")
    ],
    format: Format = None,
    variant: Variant = None,
    max_shard_size: ShardSize = "5GB",
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools import editing

        draft = editing.prune(editing.open_draft(source, variant), _heads(heads))
        _write(draft, destination, format, max_shard_size, "Pruning", as_json, manifest)


@app.command(help=_MERGE_HELP, epilog="Example: triptych merge bert bert-lora bert-merged")
def merge(
    source: Source,
    adapter: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder with adapter_config.json.")],
    destination: Destination,
    format: Format = None,
    variant: Variant = None,
    max_shard_size: ShardSize = "5GB",
    manifest: Manifest = False,
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools import editing, merging

        draft = merging.merge(editing.open_draft(source, variant), adapter)
        _write(draft, destination, format, max_shard_size, "Merging", as_json, manifest)


@app.command("gc", help=_GC_HELP, epilog="Example: triptych gc my-bert")
def collect(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="A folder that was saved to.")],
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.checkpoints.saving import collect_garbage

        removed = collect_garbage(folder)
    if as_json:
        typer.echo(json.dumps({"removed": removed}))
    else:
        typer.echo("\n".join(f"removed: {printable(name)}" for name in removed) or "nothing to remove")


def _renaming(text: str) -> tuple[str, str]:
    from triptych.errors import ArgumentError

    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise ArgumentError("--rename is unclear.", expected="OLD=NEW", received=repr(text))
    return old, new


def _heads(texts: list[str]) -> dict[int, list[int]]:
    from triptych.errors import ArgumentError

    result: dict[int, list[int]] = {}
    for text in texts:
        layer, _, heads = text.partition(":")
        numbers = [layer.removeprefix("-"), *heads.split(",")]
        if not all(number.isascii() and number.isdigit() and len(number) < 10 for number in numbers):
            raise ArgumentError("--heads is unclear.", expected="LAYER:HEAD,..., such as 0:1,3", received=repr(text))
        result.setdefault(int(layer), []).extend(map(int, heads.split(",")))
    return result


def _write(
    draft: Draft,
    destination: Path,
    format: Kind | None,
    max_shard_size: str,
    title: str,
    as_json: bool,
    manifest: bool,
) -> None:
    """Write `draft` and print what was written."""
    from triptych.tools import editing

    chosen = None if format is None else FORMATS[format.value]
    with progress_bar(title, draft.nbytes) as advance:
        how: dict[str, Any] = {"max_shard_size": max_shard_size, "manifest": manifest, "advance": advance}
        files = editing.write(draft, destination, chosen, **how)
    summary = {
        "source": str(draft.source),
        "destination": str(destination),
        "format": (chosen or draft.format).name,
        "files": [file.name for file in files],
        "tensors": len(draft.tensors),
        "parameters": draft.num_parameters,
        "bytes": draft.nbytes,
        "notes": list(draft.notes),
    }
    if as_json:
        typer.echo(json.dumps(summary))
        return
    for note in draft.notes:
        typer.echo(f"note: {printable(note)}", err=True)
    count, size = draft.num_parameters, draft.nbytes
    typer.echo(f"{printable(destination)}: {len(draft.tensors)} tensors, {count:,} parameters, {size:,} bytes")
