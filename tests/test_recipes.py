"""The recipes of docs/ci.md: shown as they are, with commands that exist, and one with the other."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from places import ROOT
from triptych.cli import app

RECIPES = {path.stem: path for path in (ROOT / "examples/ci").glob("*.yml")}
PAGE = (ROOT / "docs/ci.md").read_text()


def flow(name: str) -> dict[str, Any]:
    return yaml.safe_load(RECIPES[name].read_text())


def scripts(name: str) -> list[str]:
    """Return what a shell is given, of every job or hook."""
    if name == "github":
        return [step["run"] for job in flow(name)["jobs"].values() for step in job["steps"] if "run" in step]
    if name == "gitlab":
        jobs = [job for job in flow(name).values() if isinstance(job, dict)]
        return [line for job in jobs for key in ("before_script", "script") for line in job.get(key, ())]
    return [hook["entry"] for repo in flow(name)["repos"] for hook in repo["hooks"]]


def commands(script: str) -> Iterator[list[str]]:
    """Yield the words of each command that stands alone, or within a pipe, a list or brackets."""
    lexer = shlex.shlex(script.replace("\\\n", " ").replace("\n", ";"), posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            yield words
            words = []
        else:
            words.append(word)


def starting(name: str, program: str) -> list[list[str]]:
    """Return the arguments of each call of `program`, by itself or by another."""
    found = [words for script in scripts(name) for words in commands(script) if program in words]
    return [words[words.index(program) + 1 :] for words in found if words[-1] != program]  # that is: pip install


@pytest.mark.parametrize("name", RECIPES)
def test_the_page_shows_each_file_as_it_is(name: str) -> None:
    assert f"`examples/ci/{name}.yml`" in PAGE and f"```yaml\n{RECIPES[name].read_text()}```\n" in PAGE


@pytest.mark.parametrize(("name", "count"), [("github", 4), ("gitlab", 4), ("pre-commit", 1)])
def test_commands_of_triptych_exist(name: str, count: int) -> None:
    group: Any = typer.main.get_command(app)
    calls = starting(name, "triptych")
    assert len(calls) == count
    for verb, *words in calls:
        command = group.commands[verb]
        command.make_parser(command.context_class(command)).parse_args(words)  # raises where there is no such option


def test_both_hosts_do_the_same() -> None:
    def calls(name: str) -> set[str]:
        found = {" ".join(["triptych", *words]) for words in starting(name, "triptych")}
        return found | {f"{p} {' '.join(words)}" for p in ("pip", "pytest") for words in starting(name, p)}

    assert calls("github") == calls("gitlab") and len(calls("github")) == 8


@pytest.mark.parametrize("name", ["github", "gitlab"])
def test_the_badge_is_of_every_check(name: str) -> None:
    (words,) = [words for words in starting(name, "triptych") if words[0] == "badge"]
    written = [word for script in scripts(name) for word in re.findall(r"reports/([\w-]+\.xml)", script)]
    nightly = flow(name)["jobs"]["nightly"]["strategy"] if name == "github" else flow(name)["nightly"]["parallel"]
    matrix = nightly["matrix"] if name == "github" else nightly["matrix"][0]
    (models,) = matrix.values()
    assert {word for word in words if word.endswith(".xml")} == {*written, *(f"{Path(m).name}.xml" for m in models)}
    assert len(models) == len(written) == 2


def test_the_hook_is_that_of_this_repository() -> None:
    (own,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    (repo,) = flow("pre-commit")["repos"]
    assert {key: value for key, value in own.items() if key != "description"} == {
        key: value for key, value in repo["hooks"][0].items() if key != "additional_dependencies"
    }
