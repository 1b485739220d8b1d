"""The verb that writes to the Hub: push."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from triptych.commands import app, errors_as_messages, printable

_PUSH_HELP = """Push the checkpoint in the folder SOURCE to a repository of the Hub, as one commit.

It goes up as it is: config.json, the weights that a load would take, tokenizer files, code that config.json names.
Weights of the same format that the repository has are replaced in the same commit; those of another that would be read
in their place are renamed, or with --remove-stale deleted. README.md is pushed, or a model card made, only where the
repository has none. The weights are opened first: what cannot be loaded is not pushed."""


@app.command(help=_PUSH_HELP, epilog="Example: triptych push my-bert org/my-bert --private")
def push(
    source: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="A folder with config.json and weights.")
    ],
    repo_id: Annotated[str, typer.Argument(help="name or org/name; it is made if need be.")],
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    description: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    private: Annotated[bool, typer.Option("--private", help="A new repository is private.")] = False,
    revision: Annotated[str | None, typer.Option(help="The branch, made if need be, or refs/pr/N.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    subfolder: Annotated[str, typer.Option(help="Where in the repository.")] = "",
    tag: Annotated[list[str] | None, typer.Option(help="For the model card.")] = None,
    variant: Annotated[
        str | None, typer.Option(help="Push weights with this before their suffix, such as fp16.")
    ] = None,
    remove_stale: Annotated[
        bool, typer.Option("--remove-stale", help="Delete the weights of all other formats.")
    ] = False,
    token: Annotated[
        str | None, typer.Option(envvar="HF_TOKEN", show_envvar=True, help="By default that of `hf auth login`.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    with errors_as_messages():
        from triptych.hub.pushing import Push, files_of, push_files

        text = message or "Upload with triptych"
        asked = Push(repo_id, text, description, private or None, token, create_pr, revision, tag, subfolder)
        files = files_of(source, variant)
        info = push_files(asked, files, variant, remove_stale)
        if as_json:
            summary = {"commit": info.oid, "url": info.commit_url, "pull_request": info.pr_url, "files": sorted(files)}
            typer.echo(json.dumps(summary))
        else:
            typer.echo(f"{printable(source)}: {len(files)} files as {printable(info.pr_url or info.commit_url)}")
