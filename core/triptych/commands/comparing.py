"""The verb that compares frameworks: parity."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from triptych.commands import app, errors_as_messages, printable, steps_bar
from triptych.names import BACKENDS

_PARITY_HELP = """Check that MODEL computes the same in every framework; with THEIRS, the same as that.

Runs one model after the other on the same inputs and compares each output, each part, the weights and the greedy
tokens. Where they part, it says at which part first, and what that points to. The first side is the reference.
One model is in memory at a time: it is given back before the next is loaded.
A side is pt, tf, flax; transformers or keras_hub (their own class, as installed); module:Class, a class with
from_pretrained; or module:function, a function of the folder that returns one of arrays by name that returns arrays by
name. SIDE=FOLDER is another checkpoint on that side.
Inputs fit what the class reads first: ids, pixel_values, input_features or input_values; for others --inputs FILE.npz.
Exit status 1 if anything is further apart than float32 allows (1e-5 of the scale), or, in low precision, much further
from float32 than the reference is. Needs the frameworks: pip install 'triptych\\[parity]'."""


@app.command(help=_PARITY_HELP, epilog="Example: triptych parity my-bert --html parity.html")
def parity(
    model: Annotated[str, typer.Argument(help="A folder with weights, or org/name of the Hub.")],
    theirs: Annotated[str | None, typer.Argument(help="Another folder, or a side to compare with.")] = None,
    sides: Annotated[str, typer.Option("--in", help="The sides, the reference first.")] = "pt,tf,flax",
    stem: Annotated[str | None, typer.Option("--class", help="By default the one that the config names.")] = None,
    dtype: Annotated[str, typer.Option(help="float32, bfloat16 or float16.")] = "float32",
    batch: Annotated[int | None, typer.Option(min=1, help="So many rows of inputs; 2.")] = None,
    length: Annotated[int | None, typer.Option(min=4, help="So many tokens in each; 12.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the inputs.")] = 0,
    tokens: Annotated[int, typer.Option(min=0, help="So many greedy tokens, of models that generate.")] = 32,
    gradients: Annotated[
        bool, typer.Option("--gradients", help="Compare those of a loss, without dropout, too.")
    ] = False,
    inputs: Annotated[Path | None, typer.Option(help="An .npz of arrays by argument name, to be read instead.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything as JSON.")] = None,
    junit: Annotated[Path | None, typer.Option(help="Write JUnit XML.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write one page.")] = None,
) -> None:
    with errors_as_messages():
        chosen = [side.strip() for side in sides.split(",")]
        if theirs is not None:
            chosen.append(f"{chosen[0]}={theirs}" if Path(theirs).exists() else theirs)
        if "triptych_conformance" not in sys.modules:  # which asks for all frameworks, unless it is told
            asked = [name for name in BACKENDS if any(side.partition("=")[0] == name for side in chosen)]
            os.environ.setdefault("TRIPTYCH_BACKENDS", ",".join(asked or ["pt"]))
        # By name: the suite stands upon core.
        checking = importlib.import_module("triptych_conformance.checking")
        reporting = importlib.import_module("triptych_conformance.reporting")
        making = importlib.import_module("triptych_conformance.inputs")
        reporting.check_writable(json_file, junit, html)
        given = making.read_inputs(inputs) if inputs is not None else None
        with steps_bar("reading the config") as progress:
            report = checking.check(model, chosen, stem=stem, dtype=dtype, inputs=given, batch=batch, length=length,
                                    seed=seed, tokens=tokens, gradients=gradients, progress=progress)  # fmt: skip
        reporting.write(report, json_file, junit, html)
    for line in reporting.as_text(report).splitlines():
        typer.echo(printable(line))
    sys.stdout.flush()
    raise typer.Exit(0 if report.passed else 1)
