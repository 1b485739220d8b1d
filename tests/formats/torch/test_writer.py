"""`write_torch`: files that torch reads as its own, bit for bit, made without torch and one tensor at a time.

torch is the second reader of files that the tests wrote themselves, with `weights_only=True`, which runs nothing.
"""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from places import GOLDEN
from triptych import TensorRef, open_checkpoint
from triptych.errors import SaveError, UnsupportedFormatError
from triptych.formats.torch.file import open_torch
from triptych.formats.torch.writer import write_torch
from triptych.tensors.dtypes import SAFETENSORS

DTYPES = [name for name in SAFETENSORS if name not in ("F8_E8M0",)]
SHAPES = [(), (0,), (7,), (3, 0, 2), (2, 3, 5)]


def written(path: Path, refs: list[TensorRef]) -> Path:
    with path.open("xb") as file:
        write_torch(file, refs)
    return path


def array_of(dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    data = np.random.default_rng(0).integers(0, 2 if dtype.kind == "b" else 256, (*shape, dtype.itemsize), np.uint8)
    return data.reshape(-1).view(dtype).reshape(shape)


@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("mmap", [False, True])
def test_torch_and_triptych_read_every_dtype_back(name: str, mmap: bool, tmp_path: Path) -> None:
    arrays = {f"a.{i}": array_of(SAFETENSORS[name], shape) for i, shape in enumerate(SHAPES)}
    path = written(tmp_path / "m.bin", [TensorRef.of(key, array) for key, array in arrays.items()])
    theirs = torch.load(path, weights_only=True, mmap=mmap)
    ours = open_torch(path).tensors
    assert list(theirs) == list(ours) == list(arrays)
    for key, array in arrays.items():
        assert tuple(theirs[key].shape) == ours[key].shape == array.shape
        assert theirs[key].is_contiguous()
        raw = theirs[key].reshape(-1).view(torch.uint8).numpy() if array.size else np.zeros(0, np.uint8)
        assert raw.tobytes() == array.tobytes() == ours[key].read().tobytes()
        assert ours[key].dtype == array.dtype


def test_a_recorded_model_is_what_torch_wrote(tmp_path: Path) -> None:
    folder = GOLDEN / "gpt2-lm/pt-bin"
    recorded = open_checkpoint(folder)
    theirs = torch.load(folder / "pytorch_model.bin", weights_only=True)
    again = torch.load(written(tmp_path / "m.bin", list(recorded.values())), weights_only=True)
    assert list(again) == list(theirs)
    assert all(torch.equal(again[name], tensor) for name, tensor in theirs.items())


def test_records_are_aligned_whole_and_the_same_each_time(tmp_path: Path) -> None:
    refs = [TensorRef.of(f"t{i}", np.full(i + 1, i, np.float32)) for i in range(20)]
    paths = [written(tmp_path / f"{i}.bin", refs) for i in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    data = paths[0].read_bytes()
    with zipfile.ZipFile(paths[0]) as archive:
        assert archive.testzip() is None
        for info in archive.infolist():
            head = data[info.header_offset : info.header_offset + 30]
            start = info.header_offset + 30 + int.from_bytes(head[26:28], "little")
            assert (start + int.from_bytes(head[28:30], "little")) % 64 == 0
            assert info.compress_type == zipfile.ZIP_STORED


def test_one_tensor_is_in_memory_at_a_time(tmp_path: Path) -> None:
    refs = [TensorRef(f"t{i}", np.dtype(np.uint8), (2**20,), lambda: np.ones(2**20, np.uint8)) for i in range(16)]
    tracemalloc.start()
    written(tmp_path / "m.bin", refs)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 2**20


def test_records_beyond_two_gigabytes_get_wide_sizes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("triptych.formats.torch.writer._MAX_NARROW", 100)
    path = written(tmp_path / "m.bin", [TensorRef.of("w", np.arange(64.0))])
    assert torch.equal(torch.load(path, weights_only=True)["w"], torch.arange(64.0, dtype=torch.float64))


def test_what_torch_cannot_hold_is_refused_before_anything_is_written() -> None:
    file = io.BytesIO()
    twice = [TensorRef.of("w", np.ones(2)), TensorRef.of("w", np.ones(2))]
    with pytest.raises(SaveError, match="Two tensors"):
        write_torch(file, twice)
    with pytest.raises(SaveError, match="name"):
        write_torch(file, [TensorRef.of("\ud800", np.ones(2))])
    with pytest.raises(UnsupportedFormatError):
        write_torch(file, [TensorRef.of("w", np.array(["text"]))])
    assert file.getvalue() == b""


def test_a_full_disk_is_an_ordinary_error() -> None:
    class Full(io.BytesIO):
        def write(self, data: object) -> int:  # type: ignore[override]
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_torch(Full(), [TensorRef.of("w", np.ones(2))])
