"""Which file wins, and what `save_pretrained` writes when it is asked for a format."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from triptych import ArgumentError, MissingFileError, TensorRef, open_checkpoint, save_checkpoint
from triptych.formats.kinds import (
    BIN,
    FORMATS,
    H5,
    LAYOUTS,
    MSGPACK,
    SAFETENSORS,
    format_to_save,
    parse_format,
    read_order,
)


@pytest.fixture(params=["single", "shards"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a folder that holds four checkpoints, one in each format, that say which they are."""
    home = tmp_path / "home"
    home.mkdir()
    for number, format in enumerate(LAYOUTS):
        refs = [TensorRef.of(f"layer/{i}:0", np.full(64, float(number))) for i in range(3)]
        size = "5GB" if request.param == "single" else 600
        save_checkpoint(tmp_path / format.name, refs, max_shard_size=size, format=format, scope="model")
        for file in (tmp_path / format.name).iterdir():
            shutil.copy(file, home)
    return home


def read_from(folder: Path, framework: str, **options: Any) -> str:
    values = {ref.read()[0] for ref in open_checkpoint(folder, order=read_order(framework, **options)).values()}
    return LAYOUTS[int(values.pop())].name


@pytest.mark.parametrize(("framework", "own"), [("pt", "bin"), ("tf", "h5"), ("flax", "msgpack")])
def test_safetensors_win_then_the_own_format_then_any(framework: str, own: str, folder: Path) -> None:
    assert read_from(folder, framework) == "safetensors"
    assert read_from(folder, framework, use_safetensors=True) == "safetensors"
    assert read_from(folder, framework, use_safetensors=False) == own
    assert read_from(folder, framework, from_pt=True) == "bin"
    assert read_from(folder, framework, from_tf=True) == "h5"
    assert read_from(folder, framework, from_flax=True) == "msgpack"
    remove(folder, "model")
    assert read_from(folder, framework) == own
    with pytest.raises(MissingFileError, match="which formats you allow"):
        read_from(folder, framework, use_safetensors=True)
    remove(folder, FORMATS[own].stem)
    others = [format.name for format in (BIN, H5, MSGPACK) if format.name != own]
    assert read_from(folder, framework) == others[0]
    remove(folder, FORMATS[others[0]].stem)
    assert read_from(folder, framework) == others[1]
    with pytest.raises(MissingFileError):
        read_from(folder, framework, from_pt=others[1] != "bin", from_tf=others[1] == "bin")


def remove(folder: Path, stem: str) -> None:
    for file in [*folder.glob(f"{stem}.*"), *folder.glob(f"{stem}-*")]:
        file.unlink()


@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("after", LAYOUTS, ids=lambda format: format.name)
@pytest.mark.parametrize("before", LAYOUTS, ids=lambda format: format.name)
def test_a_save_replaces_what_was_there_in_any_format(before: Any, after: Any, variant: Any, tmp_path: Path) -> None:
    for number, (format, size) in enumerate([(before, 600), (before, "5GB"), (after, 600), (after, "5GB")]):
        refs = [TensorRef.of(f"layer/{i}:0", np.full(64, float(number))) for i in range(3)]
        config = json.dumps({"a": number // 2}) if variant is None else None
        files = save_checkpoint(
            tmp_path, refs, config, max_shard_size=size, format=format, scope="model", variant=variant
        )
        for framework in ("pt", "tf", "flax"):
            read = open_checkpoint(tmp_path, variant=variant, order=read_order(framework))
            assert {name: ref.read()[0] for name, ref in read.items()} == {ref.name: float(number) for ref in refs}
        names = {path.name for path in tmp_path.iterdir()} - {"config.json"}
        left = names - {file.name for file in files}
        if number == 1:
            assert left == set()
            single = files[-1].name
        # What no reader takes in place of the new may stay; one file without a save id is not known to be ours.
        assert left <= ({single, f"{single}.stale"} if number > 1 and after is not before else set())


def test_arguments_that_contradict_each_other_are_refused() -> None:
    for options in ({"from_pt": True, "from_tf": True}, {"from_flax": True, "use_safetensors": True}):
        with pytest.raises(ArgumentError, match="contradict"):
            read_order("pt", **options)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="contradict"):
        format_to_save("safetensors", False, "pt")
    with pytest.raises(ArgumentError, match="unknown"):
        parse_format("onnx")
    assert format_to_save(None, True, "tf") is SAFETENSORS
    assert [format_to_save(None, False, name) for name in ("pt", "tf", "flax")] == [BIN, H5, MSGPACK]
    assert format_to_save("h5", False, "pt") is H5
