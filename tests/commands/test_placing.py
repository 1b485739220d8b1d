"""`triptych plan`: a table, or JSON, from a folder or a config.json alone, without a framework."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from triptych import LlamaConfig
from triptych.commands import app, placing

assert placing
CONFIG = LlamaConfig(vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=3, num_attention_heads=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = CONFIG.to_dict() | {"architectures": ["LlamaForCausalLM"], "dtype": "bfloat16"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_a_table_of_modules_devices_and_bytes(folder: Path) -> None:
    lines = run(str(folder), "--max-memory", "cpu=12KB").splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["module", "device", "bytes"], ["model.embed_tokens", "cpu", "1,600"], ["model.layers.0", "cpu", "5,184"],
    ]  # fmt: skip
    assert lines[-2:] == ["cpu: 6.8 kB of 12.0 kB", "disk: 12.0 kB"]
    whole = run(str(folder / "config.json"), "--max-memory", "cpu=1MB", "--dtype", "float32").splitlines()
    assert whole[1].split() == ["(all)", "cpu", "37,568"]


def test_json_has_the_map_that_a_load_takes(folder: Path) -> None:
    found = json.loads(run(str(folder), "--max-memory", "0=9KB, cpu=9KB", "--device-map", "sequential", "--json"))
    assert found["device_map"]["model.embed_tokens"] == 0
    assert found["bytes"] == sum(row["bytes"] for row in found["devices"]) == 18_784
    assert [row["device"] for row in found["devices"]] == [0, "cpu", "disk"]


@pytest.mark.parametrize("memory", ["cpu", "cpu=", "=4GB", "", "cpu=x"])
def test_memory_that_is_none(folder: Path, memory: str) -> None:
    assert "Expected" in run(str(folder), "--max-memory", memory, code=2)


def test_what_is_no_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    assert "built-in and registered families" in run(str(folder), code=1)


def test_no_framework_is_imported(folder: Path) -> None:
    program = f"""
import sys
from triptych.tools.placing import plan
plan({str(folder)!r}, "cpu=12KB")
print([name for name in ("torch", "tensorflow", "jax", "accelerate") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
