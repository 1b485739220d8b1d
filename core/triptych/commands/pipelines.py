"""Verbs that hooks and pipelines run: verify-files, badge."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from triptych.commands import app, errors_as_messages, printable, progress_bar

_VERIFY_HELP = """Check that the checkpoints which FILES belong to are whole: each once, and all that its folder holds.

Every format and variant is read: index and shards agree, no shard is left over, the config can be read and is right
about ties, formats hold the same values, no Git LFS pointer stands for weights, all is as a manifest records. Files
that belong to no checkpoint are left aside. Made for pre-commit, which passes the names of changed files. Exit status
1 if something is damaged."""


@app.command("verify-files", help=_VERIFY_HELP, epilog="Example: triptych verify-files $(git ls-files)")
def verify_files(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Files of checkpoints, folders with weights, .gguf files.")
    ] = None,
    and_deleted: Annotated[
        bool, typer.Option("--and-deleted", help="Also those from which the next commit of git deletes files.")
    ] = False,
) -> None:
    with errors_as_messages():
        from triptych.errors import ArgumentError
        from triptych.tools import changed_files

        if not files and not and_deleted:
            raise ArgumentError("There is nothing to verify.", expected="files, or --and-deleted", received="none")
        if absent := [str(file) for file in files or () if not os.path.lexists(file)]:
            raise ArgumentError("Files are not there.", expected="names of files", received=", ".join(absent[:4]))
        places = changed_files.places_of([*(files or ()), *(changed_files.deleted_files() if and_deleted else ())])
        with progress_bar("Verifying", sum(map(changed_files.nbytes_of, places))) as advance:
            found = [changed_files.verify_place(place, advance) for place in places]
    for one in found:
        for note in one.notes:
            typer.echo(printable(f"{one.place}: note: {note}"), err=True)
        for problem in one.problems:
            typer.echo(printable(f"{one.place}: damaged: {problem}"), err=True)
        if not one.problems:
            typer.echo(printable(f"{one.place}: whole, {one.tensors} tensors, {one.nbytes:,} bytes read"))
    damaged = sum(bool(one.problems) for one in found)
    typer.echo(f"{len(found)} checkpoints, {damaged} damaged")
    raise typer.Exit(1 if damaged else 0)


_BADGE_HELP = """Draw how the tests in RESULTS went, all together, as an SVG image for a README.

RESULTS are JUnit XML, of triptych parity --junit or pytest --junitxml. A file that is not there counts as a failure:
what should have written it broke off. Exit status 0, also where tests failed: the image says so."""


@app.command(help=_BADGE_HELP, epilog="Example: triptych badge parity.xml --out parity.svg")
def badge(
    results: Annotated[list[Path], typer.Argument(help="JUnit XML.")],
    out: Annotated[Path, typer.Option(help="The image to write.")],
    label: Annotated[str, typer.Option(help="What the image says on the left.")] = "parity",
) -> None:
    with errors_as_messages():
        from triptych.files.atomic import write_atomically
        from triptych.tools import badges

        found = badges.read_results(results)
        write_atomically(out, badges.badge(label, str(found), found.good).encode())
    for name in found.missing:
        typer.echo(printable(f"note: {name} is not there"), err=True)
    typer.echo(printable(f"{out}: {label}: {found}"))
