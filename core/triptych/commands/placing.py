"""The verb that plans: plan."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from triptych.commands import app, errors_as_messages, printable
from triptych.commands.reports import AsJson

if TYPE_CHECKING:
    from triptych.placement.planning import Plan

_PLAN_HELP = """Show where the weights of MODEL go: its modules, their devices and bytes.

It is what device_map does with the same memory. Of MODEL the config alone is read; no framework is needed."""


@app.command("plan", help=_PLAN_HELP, epilog="Example: triptych plan t5-11b --max-memory 0=10GB,cpu=16GB")
def plan_command(
    model: Annotated[str, typer.Argument(help="A folder, a config.json, or org/name of the Hub.")],
    max_memory: Annotated[str | None, typer.Option(help="Such as cpu=4GB,0=8GB. By default what the CPU has.")] = None,
    device_map: Annotated[str, typer.Option(help="auto, balanced, balanced_low_0 or sequential.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Of the weights. By default the config's.")] = None,
    revision: Annotated[str, typer.Option(help="Branch, tag or commit of the repository.")] = "main",
    as_json: AsJson = False,
) -> None:
    with errors_as_messages():
        from triptych.tools.placing import plan

        found = plan(model, max_memory, device_map, dtype, revision)
    if as_json:
        typer.echo(json.dumps(found.as_dict()))
    else:
        _show(found)


def _show(plan: Plan) -> None:
    from rich.filesize import decimal

    facts = plan.as_dict()
    rows = [(row["module"] or "(all)", str(row["device"]), f"{row['bytes']:,}") for row in facts["modules"]]
    lines = [("module", "device", "bytes"), *rows]
    name_width, device_width, size_width = (max(len(line[column]) for line in lines) for column in range(3))
    for name, device, size in lines:
        typer.echo(printable(f"{name:<{name_width}}  {device:<{device_width}}  {size:>{size_width}}"))
    for row in facts["devices"]:
        limit = "" if row["limit"] is None else f" of {decimal(row['limit'])}"
        typer.echo(f"{row['device']}: {decimal(row['bytes'])}{limit}")
