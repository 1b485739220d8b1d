"""The verb that changes Python files: port."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from triptych.commands import app, errors_as_messages, printable

_PORT_HELP = """Make files that were written for transformers 4 files for triptych: their imports are changed, no more.

What will not work here is listed, line by line, with what to do. A name that triptych does not have, and the file does
not use, is no longer imported; of one that it uses the import fails, and says what to do; tokenizers are still imported
from transformers. GenerationMixin is taken from the bases of classes, as triptych does not generate yet. Needs libcst:
pip install 'triptych\\[port]'."""


@app.command(help=_PORT_HELP, epilog="Example: triptych port modeling_mine.py configuration_mine.py --output ported")
def port(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Python files.")],
    output: Annotated[
        Path | None, typer.Option(help="A folder, or for one file a .py file; by default files are changed in place.")
    ] = None,
    package: Annotated[
        str | None,
        typer.Option(
            help="Where in transformers the files are from, such as transformers.models.bert, for their relative "
            "imports; by default the path tells, if it has a folder transformers."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the remarks as one JSON object.")] = False,
) -> None:
    with errors_as_messages():
        from triptych.files.atomic import write_atomically
        from triptych.tools.porting import port_file, ported_names

        made = [(file, target, port_file(file, package)) for file, target in ported_names(files, output)]
        for file, target, ported in made:  # once all of them are known to be Python
            if output is not None:
                target.parent.mkdir(parents=True, exist_ok=True)
            if output is not None or ported.text != file.read_bytes():
                write_atomically(target, ported.text)
        shown = [(file if output is None else target, file, ported) for file, target, ported in made]
        if as_json:
            summary = {
                str(name): {"imports": ported.imports, "remarks": [asdict(remark) for remark in ported.remarks]}
                for name, _, ported in shown
            }
            typer.echo(json.dumps(summary))
            return
        for name, file, ported in shown:
            typer.echo(f"{printable(name)}: {ported.imports} imports, {len(ported.remarks)} remarks")
            for remark in ported.remarks:
                typer.echo(f"{printable(file)}:{remark.line}: {printable(remark.what)}: {printable(remark.remedy)}")
