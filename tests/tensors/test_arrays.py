"""Cast and transpose, what a load does to an array: exact for every dtype and shape, in memory of the result alone."""

from __future__ import annotations

import itertools
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triptych import TensorRef
from triptych.tensors import arrays
from triptych.tensors.dtypes import FLOATING, SAFETENSORS
from triptych.weights.plan import Assignment
from triptych.weights.schema import Axis, Layout, Weight
from triptych_flax import arrays as flax_arrays
from triptych_pt import arrays as pt_arrays
from triptych_tf import arrays as tf_arrays

BFLOAT16, FLOAT32, FLOAT64 = np.dtype(ml_dtypes.bfloat16), np.dtype(np.float32), np.dtype(np.float64)
FLOATS_OF_FILES = (*sorted(FLOATING - {FLOAT64}, key=str),
                   *(np.dtype(t) for t in (ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)))  # fmt: skip
LENGTHS = [0, 1, 2, 7, 63, 64, 65, 300]


def matrix(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of random bytes, NaNs of every kind among its numbers."""
    count = int(np.prod(shape)) * dtype.itemsize
    data = np.random.default_rng(count).integers(0, 2 if dtype == np.bool_ else 256, count, np.uint8)
    return data.view(dtype).reshape(shape)


def bits(array: np.ndarray) -> tuple[tuple[int, ...], np.dtype, bytes]:
    return array.shape, array.dtype, array.tobytes()


def weight(name: str, *lengths: int) -> Weight:
    return Weight(name, tuple(Axis("rows", length) for length in lengths), Layout.LINEAR)


@pytest.mark.parametrize("dtype", SAFETENSORS.values(), ids=SAFETENSORS)
def test_a_transpose_moves_every_byte(dtype: np.dtype) -> None:
    for shape in itertools.product(LENGTHS, LENGTHS):
        array = matrix(shape, dtype)
        for result in (
            arrays.transposed(array),
            arrays.transposed(array, None, 16, 5),
            arrays.permuted(array, (1, 0)),
        ):
            assert bits(result) == bits(np.ascontiguousarray(array.T)), shape
            assert result.flags.c_contiguous


@pytest.mark.parametrize("shape", [(1, 9000), (9000, 1), (300, 8193), (8193, 3), (2, 16385)])
def test_a_transpose_wider_than_its_buffer(shape: tuple[int, int]) -> None:
    array = matrix(shape, BFLOAT16)
    assert bits(arrays.transposed(array)) == bits(np.ascontiguousarray(array.T))


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(0, 40), st.integers(0, 40)), st.integers(1, 64), st.integers(1, 12),
    st.sampled_from(["as it is", "transposed", "every second", "backwards"]), st.sampled_from(sorted(SAFETENSORS)),
)  # fmt: skip
def test_a_transpose_of_any_view_in_any_blocks(
    shape: tuple[int, int], block_bytes: int, width: int, view: str, name: str
) -> None:
    array = matrix(shape, SAFETENSORS[name])
    array = {"as it is": array, "transposed": array.T, "every second": array[::2, 1::2], "backwards": array[::-1]}[view]
    assert bits(arrays.transposed(array, None, block_bytes, width)) == bits(np.ascontiguousarray(array.T))


@pytest.mark.parametrize("order", [None, (1, 0)])
@pytest.mark.parametrize("target", sorted(FLOATING, key=str), ids=str)
@pytest.mark.parametrize("source", sorted(FLOATING, key=str), ids=str)
def test_a_cast_is_numpys_for_every_bit_pattern(
    source: np.dtype, target: np.dtype, order: tuple[int, int] | None
) -> None:
    patterns = np.arange(2**16, dtype=np.uint16)
    if source.itemsize == 2:
        array = patterns.view(source).reshape(512, 128)
    else:
        array = patterns.view(np.float16).astype(source).reshape(512, 128)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = array.astype(target)
        result = arrays.permuted(array, order, target)
    assert bits(result) == bits(expected if order is None else np.ascontiguousarray(expected.T))


def test_bfloat16_becomes_the_upper_half_of_float32() -> None:
    patterns = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    result = arrays.permuted(patterns.view(BFLOAT16), (1, 0), FLOAT32)
    assert np.array_equal(result.view(np.uint32), patterns.T.astype(np.uint32) << 16)


@pytest.mark.parametrize("order", [None, (1, 0), (2, 0, 1)])
def test_a_permutation_without_work_is_the_array_itself(order: tuple[int, ...] | None) -> None:
    array = matrix((4, 5, 6)[: 3 if order is None else len(order)], BFLOAT16)
    result = arrays.permuted(array, order, BFLOAT16)
    assert (result is array) == (order is None)
    assert bits(result) == bits(np.ascontiguousarray(array if order is None else array.transpose(order)))


def test_a_cast_and_transpose_takes_memory_for_its_result_alone() -> None:
    stored = matrix((1500, 3000), np.dtype(np.uint16)).view(BFLOAT16)
    assignment = Assignment(weight("w.weight", 1500, 3000), TensorRef.of("w.weight", stored), FLOAT32)
    tracemalloc.start()
    try:
        result = assignment.read("tf")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert result.shape == (3000, 1500)
    assert peak < 1.4 * result.nbytes


@pytest.mark.parametrize("dtype", [*sorted(FLOATING - {FLOAT64}, key=str), np.dtype(ml_dtypes.float8_e5m2)], ids=str)
@pytest.mark.parametrize("shape", [(3, 5), (2100, 2100)])
def test_tensorflow_and_jax_take_the_result_without_a_copy(shape: tuple[int, int], dtype: np.dtype) -> None:
    for array in (arrays.transposed(np.zeros(shape, dtype)), arrays.converted(np.zeros(shape, np.float32), dtype)):
        assert array.ctypes.data % (2**21 if array.nbytes >= 2**22 else 64) == 0
        assert flax_arrays.to_native(array).unsafe_buffer_pointer() == array.ctypes.data
        assert np.asarray(tf_arrays.to_native(array)).ctypes.data == array.ctypes.data


@pytest.mark.parametrize("dtype", [*FLOATS_OF_FILES], ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,)])
def test_small_tensors_go_and_come_back(shape: tuple[int, ...], dtype: np.dtype) -> None:
    array = np.full(shape, 1.5).astype(dtype)
    for module in (flax_arrays, pt_arrays, tf_arrays):
        found = module.to_numpy(module.to_native(array))
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype, found.tobytes()) == (shape, dtype, array.tobytes())
