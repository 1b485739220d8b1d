"""The program `triptych`: quiet without a terminal, a bar on one, and quick to say what it can do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gguf_models import make_model, write_gguf
from triptych import open_checkpoint


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0")


def program(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "triptych", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]


def test_the_program_converts_quietly_without_a_terminal(model: Path, tmp_path: Path) -> None:
    done = program("convert", str(model), str(tmp_path / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "21 tensors" in done.stdout
    failed = program("convert", str(model), str(model.parent / "m.gguf"))
    assert failed.returncode == 2 and "Traceback" not in failed.stderr


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no terminals to make on this system")
def test_progress_is_shown_on_a_terminal(model: Path, tmp_path: Path) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "triptych", "convert", str(model), str(tmp_path / "out")]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    subprocess.run(command, stdout=subprocess.PIPE, stderr=theirs, check=True, env=environment)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    size = open_checkpoint(model).nbytes / 1000
    assert "Converting" in shown and f"{size:.1f}/{size:.1f} kB" in shown and "/s" in shown


def test_help_has_an_example_and_loads_nothing_heavy() -> None:
    assert "triptych convert model.Q4_1.gguf" in program("convert", "--help").stdout
    code = (
        "import sys, typer.testing, triptych.cli as cli\n"
        "result = typer.testing.CliRunner().invoke(cli.app, ['--help'])\n"
        "heavy = {'numpy', 'gguf', 'torch', 'tensorflow', 'keras', 'jax', 'flax'} & set(sys.modules)\n"
        "print(result.exit_code, 'convert' in result.output, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0 True set()"
