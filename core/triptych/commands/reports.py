"""Verbs that only read: inspect, verify, diff."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from triptych.commands import app, errors_as_messages, printable, progress_bar
from triptych.errors import ArgumentError, IntegrityError

if TYPE_CHECKING:
    from rich.tree import Tree

    from triptych.checkpoints.verifying import Verified
    from triptych.tools.comparing import Compared
    from triptych.tools.inspecting import Entry, Inspection

_PATH_HELP = "A folder with weights of any format, or a .gguf file."
Checkpoint = Annotated[Path, typer.Argument(exists=True, help=_PATH_HELP)]
Variant = Annotated[str | None, typer.Option(help="Read files with this before their suffix, such as fp16.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")]

_MAX_DEPTH = 100
"""Levels of the tree; a name of more is one branch."""

_INSPECT_HELP = """Show what PATH holds: its tensors as a tree, with shapes, dtypes, sizes, ties and totals.

Only headers are read. Names are the canonical ones, those of PyTorch."""
_VERIFY_HELP = """Check that FIRST is whole; with SECOND, that both hold the same tensors, in whatever formats.

Every tensor is read and hashed (SHA-256). Where there is a manifest, as save_pretrained(manifest=True) and --manifest
write it, every file that it records is compared with it, and of one that differs every tensor; its digest is printed,
and with --digest compared. Exit status 1 if something differs or is damaged."""
_DIFF_HELP = """Show how two checkpoints differ: config, names, shapes, dtypes, and values with the largest difference.

Exit status 1 if anything differs."""


@app.command("inspect", help=_INSPECT_HELP, epilog="Example: triptych inspect bert-base-uncased")
def inspect_command(path: Checkpoint, variant: Variant = None, as_json: AsJson = False) -> None:
    with errors_as_messages():
        from triptych.tools.inspecting import inspect

        found = inspect(path, variant)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _show(found)


@app.command(help=_VERIFY_HELP, epilog="Example: triptych verify bert-safetensors bert-h5")
def verify(
    first: Checkpoint,
    second: Annotated[Path | None, typer.Argument(exists=True, help=_PATH_HELP)] = None,
    variant: Variant = None,
    digest: Annotated[
        str | None, typer.Option(metavar="sha256:...", help="Refuse FIRST if its manifest has another digest.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    if second is None:
        _verify_one(first, variant, digest, as_json)
        return
    with errors_as_messages():
        if digest is not None:
            raise ArgumentError("--digest is of one checkpoint.", received=str(second), remedy="leave SECOND out")
    tensors = _compared(first, second, variant, "Verifying")
    differing = [tensor for tensor in tensors if tensor.kind != "equal"]
    if as_json:
        typer.echo(json.dumps({"equal": not differing, "tensors": [vars(tensor) for tensor in tensors]}))
    else:
        _print_compared(differing)
        typer.echo(f"{len(tensors)} tensors, {len(tensors) - len(differing)} equal, {len(differing)} different")
    raise typer.Exit(1 if differing else 0)


@app.command(help=_DIFF_HELP, epilog="Example: triptych diff bert bert-finetuned")
def diff(first: Checkpoint, second: Checkpoint, variant: Variant = None, as_json: AsJson = False) -> None:
    tensors = [tensor for tensor in _compared(first, second, variant, "Comparing") if tensor.kind != "equal"]
    with errors_as_messages():
        from triptych.tools.comparing import config_changes
        from triptych.tools.editing import open_draft

        config = config_changes(open_draft(first, variant), open_draft(second, variant))
    if as_json:
        typer.echo(json.dumps({"config": config, "tensors": [vars(tensor) for tensor in tensors]}))
    else:
        for key, (one, other) in config.items():
            typer.echo(printable(f"config {key}: {json.dumps(one)} -> {json.dumps(other)}"))
        _print_compared(tensors)
        typer.echo(f"{len(config)} config fields and {len(tensors)} tensors differ")
    raise typer.Exit(1 if config or tensors else 0)


def _verify_one(path: Path, variant: str | None, digest: str | None, as_json: bool) -> None:
    with errors_as_messages():
        from triptych.tools import comparing
        from triptych.tools.editing import open_draft

        found = _verify_files(path, variant, digest)
        draft = open_draft(path, variant)
        plan = comparing.check_whole(draft)
        hashes = {} if found is None else comparing.recorded(draft, found.entry)
        if not hashes:
            with progress_bar("Verifying", draft.nbytes) as advance:
                hashes = comparing.digests(draft, advance)
        whole = comparing.combined(draft, hashes)
    missing = [] if plan is None else [weight.name for weight in plan.missing]
    pinned = None if found is None else found.entry.digest
    if as_json:
        facts = {"sha256": whole, "digest": pinned, "missing": missing, "notes": draft.notes, "tensors": hashes}
        typer.echo(json.dumps(facts))
        return
    for note in [*draft.notes, *(f"no weights for the head: {name}" for name in missing)]:
        typer.echo(f"note: {printable(note)}", err=True)
    typer.echo(f"{printable(path)}: {len(hashes)} tensors, {draft.nbytes:,} bytes, all read; sha256 {whole}")
    if found is not None:
        typer.echo(f"{len(found.entry.files)} files are as the manifest records; digest {pinned}")


def _verify_files(path: Path, variant: str | None, digest: str | None) -> Verified | None:
    """Compare the files of `path` with its manifest, and return what that says; None if there is none, nor a digest."""
    from triptych.checkpoints.verifying import wanted
    from triptych.tools.verifying import has_manifest, verify_folder

    asked = wanted(has_manifest(path, variant), digest)
    if asked is None:
        return None
    with progress_bar("Verifying", sum(file.stat().st_size for file in path.glob("*") if file.is_file())) as advance:
        found, differences = verify_folder(path, asked, variant, advance)
    for difference in differences:
        typer.echo(printable(difference), err=True)
    if differences:
        raise IntegrityError(
            f"{path} is not what its manifest records.",
            expected=f"save {found.entry.save}",
            received=f"{len(differences)} differences",
            remedy="get the checkpoint again",
        )
    return found


def _compared(first: Path, second: Path, variant: str | None, title: str) -> list[Compared]:
    with errors_as_messages():
        from triptych.tools.comparing import compare
        from triptych.tools.editing import open_draft

        drafts = open_draft(first, variant), open_draft(second, variant)
        with progress_bar(title, sum(draft.nbytes for draft in drafts)) as advance:
            return list(compare(*drafts, advance))
    raise AssertionError  # errors_as_messages leaves by typer.Exit


def _print_compared(tensors: list[Compared]) -> None:
    for tensor in tensors:
        text = f"{tensor.name}: {tensor.kind}"
        if tensor.kind == "values":
            text += f", {tensor.differing:,} elements differ, by at most {tensor.largest:.3g}"
        elif tensor.kind in ("shape", "dtype"):
            text += f", {tensor.first} and {tensor.second}"
        typer.echo(printable(text))


def _show(found: Inspection) -> None:
    """Print the tree and the totals. Text from files is never read as markup."""
    from rich.console import Console
    from rich.filesize import decimal
    from rich.text import Text
    from rich.tree import Tree

    facts: dict[str, Any] = found.as_dict()
    named = facts["architectures"] or []
    kinds = [facts["model_type"] or "no model_type", *(named if isinstance(named, list) else [named])]
    kind = ", ".join(map(str, kinds))
    root = Tree(Text(printable(f"{facts['path']} ({facts['format']}; {kind})")))
    branches: dict[str, Tree] = {"": root}
    for entry in found.entries:
        scope, _, leaf = entry.name.rpartition(".")
        _branch(branches, scope).add(Text(printable(_line(leaf, entry))))
    console = Console()
    console = console if console.is_terminal else Console(width=1000)  # nothing is cut in a file or a pipe
    console.print(root)
    for name in found.missing:
        console.print(Text(printable(f"missing: {name}")))
    sizes = ", ".join(f"{name} {decimal(size)}" for name, size in found.bytes_by_dtype.items())
    files = ", ".join(f"{name} {decimal(size)}" for name, size in found.files.items())
    totals = f"{len(found.entries)} tensors, {found.num_parameters:,} parameters, {decimal(found.nbytes)} ({sizes})"
    console.print(Text(printable(f"{totals}\nfiles: {files}").replace(" files: ", "\nfiles: ")))


def _branch(branches: dict[str, Tree], scope: str) -> Tree:
    from rich.text import Text

    if scope not in branches:
        above, _, name = scope.rpartition(".") if scope.count(".") < _MAX_DEPTH else ("", "", scope)
        branches[scope] = _branch(branches, above).add(Text(printable(name)))
    return branches[scope]


def _line(leaf: str, entry: Entry) -> str:
    from rich.filesize import decimal

    note = f" = {entry.tied_to}" if entry.tied_to else f" ({entry.note})" if entry.note else ""
    return f"{leaf} {list(entry.shape)} {entry.dtype} {decimal(entry.nbytes)}{note}"
