"""`open_torch` reads what every version of torch.save wrote, bit by bit, without torch."""

from __future__ import annotations

import json
import pickletools
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from places import GOLDEN
from torch_files import Call, Id, floats, pickled, stream, tar, tensor, write_zip
from triptych.errors import CorruptCheckpointError, UnsupportedFormatError
from triptych.formats.safetensors import open_safetensors
from triptych.formats.torch.file import open_torch
from triptych.tensors.dtypes import SAFETENSORS

ZIP = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "stream"])
MMAP = pytest.mark.parametrize("mmap", [True, False], ids=["mmap", "owned"])
DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
    "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
}  # fmt: skip


def random_tensor(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Return a tensor of random bits, NaN included."""
    count = int(np.prod(shape)) * dtype.itemsize
    data = torch.randint(0, 2 if dtype == torch.bool else 256, (count,), dtype=torch.uint8)
    return data.view(dtype).reshape(shape)


def saved(path: Path, value: object, is_zip: bool = True, **options: object) -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=is_zip, **options)
    return path


def raw(value: torch.Tensor) -> bytes:
    return value.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def check_like_torch(path: Path, mmap: bool = True, pick: Callable = lambda loaded: loaded) -> None:
    # The file is the test's own; weights_only knows fewer of the containers that torch.save writes.
    check_like(pick(torch.load(path, weights_only=False)), path, mmap)


def check_like(loaded: dict[str, object], path: Path, mmap: bool) -> None:
    read = open_torch(path, mmap)
    assert list(read.tensors) == [name for name, value in loaded.items() if isinstance(value, torch.Tensor)]
    for name, ref in read.tensors.items():
        array = ref.read()
        assert array.dtype == ref.dtype
        assert array.shape == ref.shape == tuple(loaded[name].shape)
        assert array.flags.c_contiguous and array.flags.aligned and array.flags.writeable
        assert array.tobytes() == raw(loaded[name]), name


# -- what torch writes ---------------------------------------------------------------------------------------------


def test_every_dtype_of_the_core_is_covered() -> None:
    assert set(DTYPES) == set(SAFETENSORS)


@ZIP
@MMAP
def test_every_dtype_is_read_bit_by_bit(is_zip: bool, mmap: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    values = {name: random_tensor(dtype, 3, 5) for name, dtype in DTYPES.items()}
    path = saved(tmp_path / "x.bin", values, is_zip)
    check_like(values, path, mmap)
    if is_zip:  # torch 2.13 writes uint16 and others into streams, but cannot read them
        check_like_torch(path, mmap)
    assert {name: ref.dtype for name, ref in open_torch(path).tensors.items()} == SAFETENSORS


class Third:
    """A tensor that is saved as torch saves those of new dtypes, with more arguments at the end."""

    def __init__(self, tensor: torch.Tensor, *more: object) -> None:
        self.tensor, self.more = tensor, more

    def __reduce__(self) -> tuple[object, ...]:
        one = self.tensor
        arguments = one.untyped_storage(), 0, tuple(one.shape), one.stride(), False, OrderedDict(), one.dtype
        return torch._utils._rebuild_tensor_v3, (*arguments, *self.more)


def test_a_dtype_that_stands_beside_its_storage_is_read(tmp_path: Path) -> None:
    values = {name: random_tensor(dtype, 3, 5) for name, dtype in DTYPES.items()}
    path = saved(tmp_path / "x.bin", {name: Third(value) for name, value in values.items()})
    check_like(values, path, mmap=True)
    assert {name: ref.dtype for name, ref in open_torch(path).tensors.items()} == SAFETENSORS


def test_bits_that_stand_beside_a_dtype_are_refused(tmp_path: Path) -> None:
    value = random_tensor(torch.float32, 3, 5)
    check_like({"w": value}, saved(tmp_path / "none.bin", {"w": Third(value, {})}), mmap=True)
    with pytest.raises(UnsupportedFormatError, match="negative of its values"):
        open_torch(saved(tmp_path / "some.bin", {"w": Third(value, {"neg": True})}))


@pytest.mark.parametrize("axes", [32, 33])
def test_tensors_have_up_to_32_axes(axes: int, tmp_path: Path) -> None:
    values = {"w": torch.ones([1] * axes)}
    path = saved(tmp_path / "x.bin", values)
    if axes == 32:
        check_like(values, path, mmap=True)
    else:
        with pytest.raises(CorruptCheckpointError, match="32"):
            open_torch(path)


def test_records_may_have_names_in_the_oldest_encoding(tmp_path: Path) -> None:
    """Whichever other flags they have: bit 3 says that sizes stand behind the data, too."""
    values = {"w": random_tensor(torch.float32, 3, 5)}
    path = saved(tmp_path / "x.bin", values)
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("archive/extra_E")
        archive.writestr(info, b"1")
    data = path.read_bytes().replace(b"archive/extra_E", b"archive/extra_\x90")
    place = data.index(b"archive/extra_\x90")
    other = data.rindex(b"archive/extra_\x90")
    flagged = bytearray(data)
    flagged[place - 30 + 6] |= 8
    flagged[other - 46 + 8] |= 8
    path.write_bytes(flagged)
    check_like(values, path, mmap=True)


def views() -> dict[str, torch.Tensor]:
    whole = torch.arange(120, dtype=torch.float32).reshape(4, 5, 6)
    return {
        "whole": whole, "transposed": whole[0].t(), "permuted": whole.permute(2, 0, 1), "stepped": whole[::2, :, 1::3],
        "sliced": whole[:, 1:3], "row": whole[2, 3], "scalar": whole[3, 4, 5], "expanded": whole[0, 0].expand(3, 6),
        "column": whole[:, :1, :1], "overlapping": whole.as_strided((4, 3), (2, 1), 7), "empty": torch.zeros(0, 3),
        "empty slice": whole[4:], "rank 0": torch.tensor(3.5), "images": torch.randn(2, 3, 4, 4).to(
            memory_format=torch.channels_last), "parameter": torch.nn.Parameter(whole[1]), "tied": whole,
    }  # fmt: skip


@ZIP
@MMAP
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_views_are_read_as_contiguous_arrays(is_zip: bool, mmap: bool, protocol: int, tmp_path: Path) -> None:
    check_like_torch(saved(tmp_path / "x.bin", views(), is_zip, pickle_protocol=protocol), mmap)


@ZIP
def test_a_state_dict_of_a_module_with_everything_around_it(is_zip: bool, tmp_path: Path) -> None:
    state = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)).state_dict()
    assert hasattr(state, "_metadata")
    parameter = torch.nn.Parameter(torch.zeros(2))
    parameter.note = {"a": [1, 2]}  # type: ignore[attr-defined]
    state["parameter"] = parameter
    rest = {"number": 2**70, "float": 0.5, "text": "ä", "bytes": b"\xff", "none": None, "list": [{1}, (True,)],
            "complex": 2j, "dtype": torch.float8_e5m2, "size": torch.Size([2]), "device": torch.device("cpu"),
            "layout": torch.strided, "frozen": frozenset([3]), "array": bytearray(b"x")}  # fmt: skip
    path = saved(tmp_path / "x.bin", state | rest, is_zip)
    read = open_torch(path)
    assert set(read.tensors) == set(state)
    assert json.loads(read.metadata["ignored"]) == list(rest)
    assert all(read.tensors[name].read().tobytes() == raw(value) for name, value in state.items())
    assert open_torch(saved(path, state, is_zip)).metadata == {}
    assert open_torch(saved(path, {}, is_zip)).tensors == {}


def test_sets_and_bytes_of_newer_protocols_are_ignored_too(tmp_path: Path) -> None:
    value = {"w": torch.ones(1), "set": {1, "a"}, "frozen": frozenset([1]), "bytes": b"x" * 300, "long": "y" * 300}
    read = open_torch(saved(tmp_path / "x.bin", value, pickle_protocol=4))
    assert read.tensors["w"].read().tolist() == [1]
    assert json.loads(read.metadata["ignored"]) == ["set", "frozen", "bytes", "long"]


@pytest.mark.parametrize("folder", sorted(p.parent.name for p in GOLDEN.glob("*/pt-bin")))
@MMAP
def test_golden_files_hold_the_same_as_safetensors(folder: str, mmap: bool, golden: Path) -> None:
    expected = open_safetensors(golden / folder / "pt-safetensors/model.safetensors").tensors
    single = open_torch(golden / folder / "pt-bin/pytorch_model.bin", mmap).tensors
    index = json.loads((golden / folder / "pt-bin-sharded/pytorch_model.bin.index.json").read_text())["weight_map"]
    shards = {name: open_torch(golden / folder / "pt-bin-sharded" / name, mmap) for name in set(index.values())}
    assert set(single) == set(index) >= set(expected)
    for name, ref in expected.items():
        for other in (single[name], shards[index[name]].tensors[name]):
            assert (other.dtype, other.shape) == (ref.dtype, ref.shape)
            assert other.read().tobytes() == ref.read().tobytes()
    tied = {name: single[name].read().tobytes() for name in set(single) - set(expected)}
    assert all(data in {ref.read().tobytes() for ref in expected.values()} for data in tied.values())


@MMAP
def test_writing_to_an_array_never_reaches_the_file(mmap: bool, tmp_path: Path) -> None:
    path = saved(tmp_path / "x.bin", {"w": torch.ones(9)})
    before = path.read_bytes()
    open_torch(path, mmap).tensors["w"].read()[:] = 7
    assert path.read_bytes() == before
    assert open_torch(path, mmap).tensors["w"].read().tolist() == [1] * 9


def test_opening_and_reading_import_no_framework(tmp_path: Path) -> None:
    saved(tmp_path / "zip.bin", views())
    saved(tmp_path / "stream.bin", views(), is_zip=False)
    script = (
        "import sys; from pathlib import Path; from triptych.formats.torch.file import open_torch\n"
        "for path in map(Path, sys.argv[1:]): [ref.read() for ref in open_torch(path).tensors.values()]\n"
        "assert not {'torch', 'tensorflow', 'jax', 'flax', 'keras'} & set(sys.modules)"
    )
    files = [str(path) for path in sorted(tmp_path.glob("*.bin"))]
    assert len(files) == 2
    subprocess.run([sys.executable, "-c", script, *files], check=True)


# -- what others write ---------------------------------------------------------------------------------------------


@MMAP
def test_a_repacked_archive_is_inflated(mmap: bool, tmp_path: Path) -> None:
    saved(tmp_path / "x.bin", views())
    with zipfile.ZipFile(tmp_path / "x.bin") as old, zipfile.ZipFile(tmp_path / "y.bin", "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    check_like_torch(tmp_path / "y.bin", mmap)


@MMAP
def test_big_endian_archives_are_swapped(mmap: bool, tmp_path: Path) -> None:
    values = {name: random_tensor(DTYPES[name], 3, 2) for name in ("F32", "C64", "BF16", "I64", "U8")}
    path = saved(tmp_path / "x.bin", values)
    swapped = tmp_path / "y.bin"
    widths = [4, 4, 2, 8, 1]
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(swapped, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if "/data/" in name:
                data = np.frombuffer(data, f"u{widths[int(name.rpartition('/')[2])]}").byteswap().tobytes()
            new.writestr(name, b"big" if name.endswith("byteorder") else data)
    check_like_torch(swapped, mmap)
    assert {n: r.read().tobytes() for n, r in open_torch(swapped).tensors.items()} == {
        n: raw(value) for n, value in values.items()
    }
    with pytest.raises(CorruptCheckpointError, match="byte order"):
        open_torch(write_zip(path, {"w": tensor()}, order="middle"))


def test_storage_views_of_old_streams(tmp_path: Path) -> None:
    value = {"w": tensor((2,), offset=1, tail=(("7", 1, 3),)), "whole": tensor(tail=(None,))}
    (tmp_path / "x.bin").write_bytes(stream(value))
    check_like_torch(tmp_path / "x.bin")
    assert open_torch(tmp_path / "x.bin").tensors["w"].read().tolist() == [3, 4]


@MMAP
def test_tar_archives_are_refused_with_the_way_to_save_them_again(mmap: bool, tmp_path: Path) -> None:
    path = tmp_path / "it's old.bin"
    path.write_bytes(tar(OrderedDict(w=Id("21"), view=Id("22"), step=3)))
    with pytest.raises(UnsupportedFormatError, match="before torch 0.2.*trust its origin") as caught:
        open_torch(path, mmap)
    code = str(caught.value).split("`")[1]
    subprocess.run([sys.executable, "-c", code], check=True)
    read = open_torch(tmp_path / "new-it's old.bin", mmap).tensors
    assert read["w"].read().tolist() == [[0, 3], [1, 4], [2, 5]]
    assert read["view"].read().tolist() == [3, 4, 5]


def as_python_2(pickle: bytes) -> bytes:
    """Return a pickle with the short strings of Python 2."""
    result, last = b"", 0
    for code, argument, position in pickletools.genops(pickle):
        if code.name == "BINUNICODE":
            text = str(argument).encode()
            result += pickle[last:position] + b"U" + bytes([len(text)]) + text
            last = position + 5 + len(text)
    return result + pickle[last:]


@pytest.mark.parametrize("build", [write_zip, lambda path, top: path.write_bytes(stream(top))], ids=["zip", "stream"])
def test_files_of_python_2(build: Callable, tmp_path: Path) -> None:
    tail = () if build is write_zip else (None,)
    top = as_python_2(pickled(Call(OrderedDict, [["a", tensor(tail=tail)], ["b", tensor((2, 2), (2, 1), tail=tail)]])))
    assert b"U\x07storage" in top
    build(tmp_path / "x.bin", top)
    check_like_torch(tmp_path / "x.bin")


# -- which object is the state dict --------------------------------------------------------------------------------

STATE = {"w": torch.arange(3.0), "b": torch.zeros(1)}


@ZIP
@pytest.mark.parametrize("key", ["state_dict", "model"])
def test_a_state_dict_may_be_wrapped(key: str, is_zip: bool, tmp_path: Path) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1, "params": [0]}]}
    path = saved(tmp_path / "x.bin", {"epoch": 3, key: {**STATE, "n": 1}, "optimizer": optimizer}, is_zip)
    check_like_torch(path, pick=lambda loaded: loaded[key])
    assert json.loads(open_torch(path).metadata["ignored"]) == ["epoch", "optimizer", "n"]


@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": STATE, "model": STATE}, {"state_dict": STATE, "ema": {"w": torch.ones(3)}},
        {"w": torch.ones(1), "state_dict": STATE}, {"w": torch.ones(1), "sub": STATE}, {"weights": STATE},
        {"model": {"state_dict": STATE}}, {"model": {**STATE, "sub": STATE}}, {"epoch": 3}, {"state_dict": {}},
        [torch.ones(1)], torch.ones(1), 7,
    ],
    ids=str,
)  # fmt: skip
def test_no_single_state_dict_is_refused(value: object, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match="no single state dict.*Remedy: "):
        open_torch(saved(tmp_path / "x.bin", value))


def test_names_of_tensors_are_text(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match="no text"):
        open_torch(saved(tmp_path / "x.bin", {0: torch.ones(1)}))


# -- what is not read ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (lambda: torch.eye(2).to_sparse(), "_rebuild_sparse_tensor"),
        (lambda: torch.zeros(2, device="meta"), "_rebuild_meta_tensor_no_storage"),
        (lambda: torch.zeros(2, dtype=torch.complex128), "ComplexDoubleStorage"),
        (lambda: torch.zeros(2, dtype=torch.float8_e4m3fnuz), "float8_e4m3fnuz"),
        (lambda: torch.ones(2, dtype=torch.complex64).conj(), "resolve_conj"),
    ],
)
@ZIP
def test_other_kinds_of_tensors_are_refused_by_name(value: Callable, name: str, is_zip: bool, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFormatError, match=name):
        open_torch(saved(tmp_path / "x.bin", {"w": value()}, is_zip))


def test_quantised_tensors_are_refused_by_name(tmp_path: Path) -> None:
    pickle = b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_qtensor\n)Rs."
    with pytest.raises(UnsupportedFormatError, match="_rebuild_qtensor"):
        open_torch(write_zip(tmp_path / "x.bin", pickle))


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "x.bin", {"w": tensor()})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("archive/constants.pkl", pickled(()))
    with pytest.raises(UnsupportedFormatError, match=r"TorchScript.*torch\.jit\.load"):
        open_torch(path)


def test_the_made_up_archive_is_right(tmp_path: Path) -> None:
    """The attacks start from files that would be read otherwise."""
    path = write_zip(tmp_path / "x.bin", {"w": tensor()}, {"0": floats(1, 2, 3, 4)})
    check_like_torch(path)
    assert open_torch(path).tensors["w"].read().tolist() == [1, 2, 3, 4]
