"""Flax msgpack files: read lazily and strictly, written byte for byte as Flax writes them."""

from __future__ import annotations

import io
import random
import subprocess
import sys
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import ml_dtypes
import msgpack
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from places import GOLDEN
from triptych.errors import (
    ArgumentError,
    ChangedFileError,
    CorruptCheckpointError,
    LimitError,
    MissingFileError,
    SaveError,
    TriptychError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
)
from triptych.formats.msgpack.file import open_msgpack, write_msgpack
from triptych.tensors.ref import TensorRef

FILES = sorted(GOLDEN.glob("*/flax-msgpack*/*.msgpack"))
DTYPES = ["bool", "int8", "uint16", "int64", "float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "complex64"]


def ext(payload: bytes, code: int = 1) -> bytes:
    return msgpack.packb(msgpack.ExtType(code, payload))


def array(shape: object = (1,), dtype: object = "float32", data: object = b"1234", code: int = 1) -> bytes:
    return ext(msgpack.packb((shape, dtype, data)), code)


def tree(*items: tuple[object, bytes]) -> bytes:
    return msgpack.Packer().pack_map_header(len(items)) + b"".join(msgpack.packb(key) + value for key, value in items)


def chunked(shape: object, *chunks: bytes, mark: object = True, first: int = 0) -> bytes:
    parts = tree(*((str(first + number), chunk) for number, chunk in enumerate(chunks)))
    mark_bytes = msgpack.packb(mark)
    return tree(("__msgpack_chunked_array__", mark_bytes), ("shape", msgpack.packb(shape)), ("chunks", parts))


def opened(content: bytes, folder: Path, mmap: bool = True) -> dict[str, TensorRef]:
    path = folder / "flax_model.msgpack"
    path.write_bytes(content)
    return open_msgpack(path, mmap).tensors


def written(refs: list[TensorRef], **options: int) -> bytes:
    stream = io.BytesIO()
    write_msgpack(stream, refs, **options)
    return stream.getvalue()


# -- files of Flax -------------------------------------------------------------------------------------------------


def test_there_are_goldens_of_five_models() -> None:
    assert len({path.parents[1].name for path in FILES}) >= 5
    assert {path.parent.name for path in FILES} == {"flax-msgpack", "flax-msgpack-sharded"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parents[1].name}-{path.name}")
@pytest.mark.parametrize("mmap", [True, False])
def test_golden_files_read_as_flax_reads_them_and_are_rewritten_identically(path: Path, mmap: bool) -> None:
    theirs = flatten_dict(flax.serialization.msgpack_restore(path.read_bytes()), sep="/")
    found = open_msgpack(path, mmap)
    assert list(found.tensors) == list(theirs)
    for name, ref in found.tensors.items():
        read = ref.read()
        assert (read.dtype, read.shape) == (ref.dtype, ref.shape) == (theirs[name].dtype, theirs[name].shape)
        assert read.tobytes() == theirs[name].tobytes()
        assert read.flags.c_contiguous and read.flags.aligned and read.flags.writeable
    assert found.metadata == {} and found.path == path
    assert written(list(found.tensors.values())) == path.read_bytes()


def test_an_empty_map_is_a_file_without_tensors(tmp_path: Path) -> None:
    assert opened(b"\x80", tmp_path) == {}
    assert written([]) == b"\x80" == flax.serialization.msgpack_serialize({})


def test_empty_maps_inside_hold_nothing(tmp_path: Path) -> None:
    assert list(opened(tree(("a", b"\x80"), ("b", array())), tmp_path)) == ["b"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (2, 3, 7)])
def test_every_dtype_survives_both_ways(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(jnp.dtype(dtype))
    theirs = flax.serialization.msgpack_serialize({"a": {"b": values}})
    assert written([TensorRef.of("a/b", values)]) == theirs
    for mmap in (True, False):
        ref = opened(theirs, tmp_path, mmap)["a/b"]
        assert (ref.dtype, ref.shape, ref.read().tobytes()) == (values.dtype, shape, values.tobytes())


def test_jax_arrays_and_numpy_scalars_are_arrays(tmp_path: Path) -> None:
    content = flax.serialization.to_bytes({"j": jnp.ones(3, jnp.bfloat16), "s": np.float16(2.5)})
    tensors = opened(content, tmp_path)
    assert tensors["j"].read().tolist() == [1, 1, 1] and tensors["j"].dtype == ml_dtypes.bfloat16
    assert (tensors["s"].shape, tensors["s"].read().item()) == ((), 2.5)


@pytest.mark.parametrize("length", [*range(0, 40), 235, 236, 237, 250, 65_519, 65_520, 65_521, 65_600])
def test_every_width_of_a_length_is_as_flax_writes_it(length: int, tmp_path: Path) -> None:
    values = np.arange(length).astype(np.uint8)
    names = ["k", "k" * 31, "k" * 32, "k" * 256]
    theirs = flax.serialization.msgpack_serialize({name: values for name in names})
    assert written([TensorRef.of(name, values) for name in names]) == theirs
    assert all(ref.read().tobytes() == values.tobytes() for ref in opened(theirs, tmp_path).values())


@pytest.mark.parametrize("count", [15, 16, 17, 65_536])
def test_every_width_of_a_map_is_as_flax_writes_it(count: int, tmp_path: Path) -> None:
    value = np.zeros((), np.int8)
    theirs = flax.serialization.msgpack_serialize({f"{n:05}": value for n in range(count)})
    assert written([TensorRef.of(f"{n:05}", value) for n in reversed(range(count))]) == theirs
    assert len(opened(theirs, tmp_path)) == count


@pytest.mark.parametrize("limit", [1, 3, 16, 100, 1000])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_large_arrays_are_in_chunks_as_flax_makes_them(
    limit: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrays = {f"a{n}/w": np.arange(n * 3).reshape(n, 3).astype(jnp.dtype(dtype)) for n in (0, 1, 2, 13)}
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", limit)
    theirs = flax.serialization.msgpack_serialize(unflatten_dict(arrays, sep="/"))
    assert (b"chunked" in theirs) == (limit < 1000 and max(a.nbytes for a in arrays.values()) > limit)
    ours = written([TensorRef.of(name, value) for name, value in arrays.items()], max_chunk=limit)
    assert ours == theirs
    for mmap in (True, False):
        tensors = opened(ours, tmp_path, mmap)
        assert {n: (r.shape, r.read().tobytes()) for n, r in tensors.items()} == {
            n: (a.shape, a.tobytes()) for n, a in arrays.items()
        }


def test_a_mapped_array_is_a_view_where_it_can_be_and_never_reaches_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.msgpack"
    path.write_bytes(written([TensorRef.of(f"{n:03}" + "k" * n, np.zeros(8, np.float32)) for n in range(4)]))
    before = path.read_bytes()
    arrays = [ref.read() for ref in open_msgpack(path).tensors.values()]
    assert {array.base is not None and array.flags.owndata for array in arrays} == {False}
    assert all(array.flags.aligned for array in arrays)
    for values in arrays:
        values[:] = 7
    assert path.read_bytes() == before


def test_opening_and_writing_need_no_memory_for_the_arrays(tmp_path: Path) -> None:
    # In a process of its own: 600 MB in the file, 200 MB of address space on top of the imports.
    code = f"""
import resource, sys
import numpy as np
from pathlib import Path
from triptych.formats.msgpack.file import open_msgpack, write_msgpack
from triptych.tensors.ref import TensorRef
path = Path({str(tmp_path / "big.msgpack")!r})
limit = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize() + (200 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
make = lambda: np.full(30 << 20, 3, np.int8)
with path.open("xb") as file:
    write_msgpack(file, [TensorRef(f"w{{n}}", np.dtype(np.int8), (30 << 20,), make) for n in range(20)])
tensors = open_msgpack(path, mmap=False).tensors
print(path.stat().st_size, len(tensors), tensors["w7"].read().sum())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    size, count, total = map(int, done.stdout.split())
    assert (count, total) == (20, 3 * (30 << 20)) and size > 20 * (30 << 20)


# -- attacks -------------------------------------------------------------------------------------------------------

CHUNKS = [array((2,), data=b"12345678"), array((1,))]
BAD: dict[str, tuple[bytes, type[TriptychError]]] = {
    "empty": (b"", TruncatedCheckpointError),
    "top level array": (array(), CorruptCheckpointError),
    "top level list": (b"\x90", CorruptCheckpointError),
    "trailing byte": (b"\x80\x00", CorruptCheckpointError),
    "reserved type byte": (tree(("a", b"\xc1")), CorruptCheckpointError),
    "map of 2^32-1": (b"\xdf\xff\xff\xff\xff", TruncatedCheckpointError),
    "key of 2^32-1": (b"\x81\xdb\xff\xff\xff\xff", TruncatedCheckpointError),
    "ext of 2^32-1": (b"\x81\xa1a\xc9\xff\xff\xff\xff\x01", TruncatedCheckpointError),
    "long key": (tree(("k" * 5000, array())), LimitError),
    "long path": (tree(("k" * 4000, tree(("l" * 4000, array())))), LimitError),
    "integer key": (tree((1, array())), CorruptCheckpointError),
    "bytes key": (tree((b"a", array())), CorruptCheckpointError),
    "key no utf-8": (b"\x81\xa1\xff" + array(), CorruptCheckpointError),
    "empty key": (tree(("", array())), CorruptCheckpointError),
    "slash in key": (tree(("a/b", array())), CorruptCheckpointError),
    "two ways to one name": (tree(("a/b", array()), ("a", tree(("b", array())))), CorruptCheckpointError),
    "duplicate key": (tree(("a", array()), ("a", array())), CorruptCheckpointError),
    "unknown ext": (tree(("a", ext(b"1234", 7))), CorruptCheckpointError),
    "timestamp": (tree(("a", b"\xd6\xff1234")), CorruptCheckpointError),
    "native complex": (tree(("a", ext(msgpack.packb((1.0, 2.0)), 2))), UnsupportedFormatError),
    **{
        f"leaf {value!r}": (tree(("a", msgpack.packb(value))), UnsupportedFormatError)
        for value in (None, True, 3, -3, 2**40, -(2**40), 1.5, "text", b"bytes", [], [1], [{}])
    },
    "shape longer": (tree(("a", array((2,)))), CorruptCheckpointError),
    "shape shorter": (tree(("a", array((0,)))), CorruptCheckpointError),
    "negative axis": (tree(("a", array((-1,)))), CorruptCheckpointError),
    "negative axes": (tree(("a", array((-1, -1)))), CorruptCheckpointError),
    "axis a string": (tree(("a", array(("1",)))), CorruptCheckpointError),
    "axis a bool": (tree(("a", array((True,)))), CorruptCheckpointError),
    "shape an integer": (tree(("a", array(1))), CorruptCheckpointError),
    "wrapping product": (tree(("a", array((2**33, 2**33)))), CorruptCheckpointError),
    "huge axis beside none": (tree(("a", array((0, 2**62), data=b""))), LimitError),
    "rank": (tree(("a", array((1,) * 65))), LimitError),
    "scalar with a shape": (tree(("a", array((1,), code=3))), CorruptCheckpointError),
    **{
        f"dtype {name}": (tree(("a", array(dtype=name))), UnsupportedFormatError)
        for name in ("O", "object", "U1", "str32", "V4", "void32", "M8[ns]", ">f4", "f4", "float128", "i4,i4", "")
    },
    "dtype no string": (tree(("a", array(dtype=4))), CorruptCheckpointError),
    "dtype long": (tree(("a", array(dtype="float32" * 9))), LimitError),
    "data a string": (tree(("a", array(data="1234"))), CorruptCheckpointError),
    "payload of two": (tree(("a", ext(msgpack.packb(((1,), "float32"))))), CorruptCheckpointError),
    "payload of four": (tree(("a", ext(msgpack.packb(((1,), "float32", b"1234", 0))))), CorruptCheckpointError),
    "payload with a tail": (tree(("a", ext(msgpack.packb(((1,), "float32", b"1234")) + b"x"))), CorruptCheckpointError),
    "payload cut": (tree(("a", ext(msgpack.packb(((1,), "float32", b"1234"))[:-1]))), TruncatedCheckpointError),
    "payload empty": (tree(("a", ext(b""))), TruncatedCheckpointError),
    "chunk mark false": (tree(("a", chunked({"0": 3}, *CHUNKS, mark=False))), CorruptCheckpointError),
    "chunk gap": (tree(("a", chunked({"0": 3}, *CHUNKS, first=1))), CorruptCheckpointError),
    "chunk short": (tree(("a", chunked({"0": 3}, CHUNKS[0]))), CorruptCheckpointError),
    "chunk none": (tree(("a", chunked({"0": 0}))), CorruptCheckpointError),
    "chunk of other dtype": (tree(("a", chunked({"0": 3}, CHUNKS[0], array(dtype="int32")))), CorruptCheckpointError),
    "chunk of rank 2": (tree(("a", chunked({"0": 2}, array((1, 1)), array((1, 1))))), CorruptCheckpointError),
    "chunk no array": (tree(("a", chunked({"0": 3}, CHUNKS[0], b"\x01"))), CorruptCheckpointError),
    "chunk shape a list": (tree(("a", chunked([3], *CHUNKS))), CorruptCheckpointError),
    "chunk shape negative": (tree(("a", chunked({"0": -3}, *CHUNKS))), CorruptCheckpointError),
    "chunk shape gap": (tree(("a", chunked({"1": 3}, *CHUNKS))), CorruptCheckpointError),
    "chunk rank": (tree(("a", chunked({str(n): 1 for n in range(65)}, array()))), LimitError),
    "chunks in a list": (
        tree(("a", tree(("__msgpack_chunked_array__", b"\xc3"), ("shape", b"\x80"), ("chunks", b"\x90")))),
        CorruptCheckpointError,
    ),
    "chunk mark alone": (tree(("a", tree(("__msgpack_chunked_array__", b"\xc3")))), UnsupportedFormatError),
    "deep": (b"\x81\xa1a" * 2000 + b"\x80", LimitError),
    "many entries": (tree(*((str(n), b"\x80") for n in range(100_001))), LimitError),
    "list of empty lists": (
        tree(("a", b"\xdd\0\x0f\x42\x40" + b"\x90" * 10**6)),
        UnsupportedFormatError,
    ),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", CorruptCheckpointError),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(100), CorruptCheckpointError),
    "zip": (b"PK\x03\x04" + bytes(100), CorruptCheckpointError),
    "pickle": (b"\x80\x04\x95" + bytes(20), CorruptCheckpointError),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused(name: str, tmp_path: Path) -> None:
    content, error = BAD[name]
    with pytest.raises(error) as caught:
        opened(content, tmp_path)
    assert "flax_model.msgpack" in str(caught.value)


@pytest.mark.parametrize(("name", "hint"), [("git lfs", "git lfs pull"), ("hdf5", "tf_model.h5"), ("zip", "zip")])
def test_wrong_contents_are_recognised(name: str, hint: str, tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpointError, match=hint):
        opened(BAD[name][0], tmp_path)


def test_missing_file_folder_and_changed_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        open_msgpack(tmp_path / "none")
    with pytest.raises(UnsupportedFormatError):
        open_msgpack(tmp_path)
    tensors = opened(tree(("a", array())), tmp_path)
    (tmp_path / "flax_model.msgpack").write_bytes(b"\x80")
    with pytest.raises(ChangedFileError, match="changed"):
        tensors["a"].read()


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = written([TensorRef.of(n, np.arange(9, dtype=np.float32)) for n in ("a/b", "a/c", "d")], max_chunk=20)
    assert len(opened(whole, tmp_path)) == 3
    for length in range(len(whole)):
        with pytest.raises(CorruptCheckpointError):
            opened(whole[:length], tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_damage_never_escapes_the_error_tree(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    refs = [TensorRef.of(f"a/b{n}/{'k' * n}", np.arange(n, dtype=np.float32)) for n in range(1, 24)]
    whole = written(refs, max_chunk=32)
    outcomes = {True: 0, False: 0}
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(rng.choice([1, 1, 2, 8])):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            for ref in opened(bytes(data), tmp_path, mmap=False).values():
                values = ref.read()
                assert (values.dtype, values.shape, values.nbytes) == (ref.dtype, ref.shape, ref.nbytes)
            outcomes[True] += 1
        except TriptychError:
            outcomes[False] += 1
    assert min(outcomes.values()) > 20  # both happen: flips in values cannot be seen, most others must be


# -- writing -------------------------------------------------------------------------------------------------------

ONE = np.zeros(1, np.float32)


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"],
        ["a", "a/b"],
        ["a/b", "a"],
        [""],
        ["/a"],
        ["a//b"],
        ["__msgpack_chunked_array__"],
        ["/".join("k" * 65)],
    ],
)
def test_names_that_make_no_tree_are_refused_before_anything_is_written(names: list[str]) -> None:
    stream = io.BytesIO()
    with pytest.raises(SaveError):
        write_msgpack(stream, [TensorRef.of(name, ONE) for name in names])
    assert stream.getvalue() == b""


def test_foreign_dtypes_and_chunk_sizes_are_refused() -> None:
    with pytest.raises(UnsupportedFormatError):
        written([TensorRef.of("a", np.array([None]))])
    for size in (0, -1, 2**30 + 1):
        with pytest.raises(ArgumentError):
            written([], max_chunk=size)


def test_a_tensor_that_changed_its_shape_is_refused() -> None:
    with pytest.raises(SaveError, match="changed"):
        written([TensorRef("a", np.dtype(np.float32), (2,), lambda: ONE)])


def test_strided_and_byte_swapped_arrays_are_written_by_value() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    refs = [TensorRef.of("s", values.T), TensorRef.of("b", values.astype(">f4"))]
    restored = flax.serialization.msgpack_restore(written(refs))
    assert restored["s"].tolist() == values.T.tolist() and restored["b"].tolist() == values.tolist()


def test_no_framework_is_imported(tmp_path: Path) -> None:
    path = tmp_path / "x.msgpack"
    path.write_bytes(written([TensorRef.of("a", ONE)]))
    code = (
        "import sys; from pathlib import Path; from triptych.formats.msgpack.file import open_msgpack\n"
        f"open_msgpack(Path({str(path)!r})).tensors['a'].read()\n"
        "print({'torch', 'tensorflow', 'keras', 'jax', 'flax'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
