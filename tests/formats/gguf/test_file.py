"""GGUF models are the models they were made from; damaged files meet one clear error, soon."""

from __future__ import annotations

import math
import os
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from gguf_models import GPT2_SIZES, MODELS, SIZES, make_model, write_gguf
from gguf_tokenizer import build_tokenizer, smollm2_path
from triptych import (
    ArgumentError,
    ChangedFileError,
    ConfigError,
    CorruptCheckpointError,
    InconsistentCheckpointError,
    LimitError,
    MissingBackendError,
    MissingFileError,
    ShapeMismatchError,
    TriptychError,
    TruncatedCheckpointError,
    UnsupportedFormatError,
    open_checkpoint,
)
from triptych.files.regular import OwnedBytes
from triptych.formats.gguf import types
from triptych.formats.gguf.file import GgufFile, open_gguf
from triptych.formats.gguf.header import read_header
from triptych.tools.editing import open_draft, write
from triptych.tools.texts import open_texts
from triptych_conformance import assert_close

# -- models that transformers made ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_model_comes_back_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = make_model(name)
    opened = open_gguf(write_gguf(tmp_path / "m.gguf", name, model))
    expected = {key: value.numpy() for key, value in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        del expected["lm_head.weight"]
    assert set(opened.tensors) == set(expected)
    for key, ref in opened.tensors.items():
        array = ref.read()
        assert (array.dtype, array.shape) == (ref.dtype, ref.shape)
        assert array.flags.c_contiguous and array.flags.writeable
        assert np.array_equal(array, expected[key]), key


@pytest.mark.parametrize("name", MODELS)
def test_transformers_computes_the_same_from_the_converted_folder(name: str, tmp_path: Path) -> None:
    model = make_model(name)
    write(open_draft(write_gguf(tmp_path / "m.gguf", name, model)), tmp_path / "out")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ids = torch.arange(2, 30).reshape(2, 14)
    with torch.no_grad():
        assert torch.equal(loaded(ids).logits, model(ids).logits)
    assert type(loaded) is type(model)
    for key in ("bos_token_id", "eos_token_id", "tie_word_embeddings"):
        assert getattr(loaded.config, key) == getattr(model.config, key)


EXPECTED_DTYPES = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
                   "Q8_0": np.float32, "Q4_0": np.float32, "Q4_1": np.float32}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED_DTYPES)
def test_each_quantisation_is_read_in_its_dtype(kind: str, tmp_path: Path) -> None:
    model = make_model("llama")
    opened = open_gguf(write_gguf(tmp_path / "m.gguf", "llama", model, kind))
    for key, value in model.state_dict().items():
        array, exact = opened.tensors[key].read(), value.numpy()
        dtype = EXPECTED_DTYPES[kind] if exact.ndim == 2 or kind == "F64" else np.float32
        assert opened.tensors[key].dtype == array.dtype == np.dtype(dtype)
        if kind in ("F32", "F64", "F16", "BF16"):
            assert array.tobytes() == exact.astype(dtype).tobytes()
        elif exact.ndim == 2:  # rows keep their blocks when they change places
            quantised = gguf.quantize(exact, gguf.GGMLQuantizationType[kind])
            assert np.array_equal(array, gguf.dequantize(quantised, gguf.GGMLQuantizationType[kind]))
            assert 0 < np.abs(array - exact).max() < 0.2


def test_the_header_is_read_as_the_package_gguf_reads_it(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0")
    ours, theirs = read_header(path), gguf.GGUFReader(path)
    assert {
        t.name: (tuple(t.shape[::-1].tolist()), t.tensor_type, t.data_offset, t.n_bytes) for t in theirs.tensors
    } == {t.name: (t.shape, t.kind, t.start, t.nbytes) for t in ours.tensors.values()}
    values = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    plain = {key: v.tolist() if isinstance(v, np.ndarray) else v for key, v in ours.metadata.items()}
    assert plain == values
    assert plain["tokenizer.ggml.tokens"] == ["a", "b", "é"]


NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 10: "Q", 11: "q", 12: "d"}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_each_type_are_read(kind: int, tmp_path: Path) -> None:
    code, values = NUMBERS[kind], [1, 2, 100]
    several = struct.pack(f"<IQ3{code}", kind, 3, *values)
    path = tmp_path / "m.gguf"
    path.write_bytes(raw([entry("one", kind, struct.pack(f"<{code}", 77)), entry("several", 9, several)]))
    found = read_header(path).metadata
    assert found["one"] == 77 and list(found["several"]) == values


def test_opening_reads_no_tensor_and_reading_reads_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, asked = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0"), []
    original = OwnedBytes.bytes_at

    def watched(self: OwnedBytes, start: int, count: int) -> np.ndarray:
        asked.append(count)
        return original(self, start, count)

    monkeypatch.setattr(OwnedBytes, "bytes_at", watched)
    opened = open_gguf(path)
    assert asked == []
    opened.tensors["model.layers.0.self_attn.q_proj.weight"].read()
    assert asked == [32 * 34]


def test_open_checkpoint_takes_the_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"))
    checkpoint = open_checkpoint(path)
    assert len(checkpoint) == 21 and checkpoint.source == str(path)
    assert checkpoint["lm_head.weight"].read().shape == (48, 32)
    assert checkpoint.metadata["general.architecture"] == "llama"
    for options in ({"variant": "fp16"}, {"subfolder": "x"}, {"pointer": "model.safetensors"}):
        with pytest.raises(ArgumentError, match="GGUF"):
            open_checkpoint(path, **options)  # type: ignore[arg-type]
    with pytest.raises(MissingFileError):
        open_checkpoint(tmp_path / "none.gguf")


def test_the_config_is_that_of_the_model(tmp_path: Path) -> None:
    config = open_gguf(write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"))).config
    assert config == {
        **SIZES, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "head_dim": 8, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "rope_scaling": None, "hidden_act": "silu", "tie_word_embeddings": False,
        "attention_bias": False, "mlp_bias": False,
    }  # fmt: skip


def test_the_config_of_gpt2_is_that_of_the_model(tmp_path: Path) -> None:
    config = open_gguf(write_gguf(tmp_path / "m.gguf", "gpt2", make_model("gpt2"))).config
    assert config == {
        **GPT2_SIZES, "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_inner": 128,
        "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new", "tie_word_embeddings": True,
        "pad_token_id": None,
    }  # fmt: skip


# -- rotary scaling ------------------------------------------------------------------------------------------------

LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip


def llama3_factors(head_dim: int = 64) -> tuple[Any, np.ndarray]:
    """Return a model with Llama 3's scaling and the frequencies' divisors, computed by transformers."""
    model = make_model("llama", head_dim=head_dim, rope_parameters=LLAMA3, max_position_embeddings=131072)
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](model.config, device="cpu")
    plain = LLAMA3["rope_theta"] ** (-torch.arange(0, head_dim, 2) / head_dim)  # type: ignore[operator]
    return model, (plain / scaled).numpy().astype(np.float32)


def test_llama3_scaling_is_recognised(tmp_path: Path) -> None:
    model, factors = llama3_factors()
    assert 1 < np.unique(factors).size and factors[0] == 1
    assert_close(factors[-1], 8)
    path = write_gguf(tmp_path / "m.gguf", "llama", model, extra={"rope_freqs.weight": factors})
    scaling = open_gguf(path).config["rope_scaling"]
    assert_close(scaling["factor"], 8)
    assert {**scaling, "factor": 8.0, "rope_theta": 500000.0} == LLAMA3


@pytest.mark.parametrize("change", ["other constants", "one value", "shape", "nan", "zero", "with linear"])
def test_other_rotary_frequencies_are_refused(change: str, tmp_path: Path) -> None:
    model, factors = llama3_factors()
    extra: dict[str, Any] = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.0}
    changed = {
        "other constants": np.sqrt(factors),
        "one value": factors + np.eye(32, dtype=np.float32)[9],
        "shape": factors[:-1],
        "nan": factors * np.float32("nan"),
        "zero": factors * 0,
        "with linear": factors,
    }
    extra = {"rope_freqs.weight": changed[change], **(extra if change == "with linear" else {})}
    with pytest.raises(UnsupportedFormatError, match="rope_freqs|rotary"):
        open_gguf(write_gguf(tmp_path / "m.gguf", "llama", model, extra=extra))


def test_rotary_frequencies_of_one_scale_nothing(tmp_path: Path) -> None:
    extra = {"rope_freqs.weight": np.ones(4, np.float32)}
    assert (
        open_gguf(write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), extra=extra)).config["rope_scaling"]
        is None
    )


def test_linear_scaling_is_kept(tmp_path: Path) -> None:
    extra = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 2.5}
    config = open_gguf(write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), extra=extra)).config
    assert config["rope_scaling"] == {"rope_type": "linear", "factor": 2.5}


# -- what makes no model -------------------------------------------------------------------------------------------

NORM = np.ones(32, np.float32)
STRANGE: dict[str, tuple[dict[str, Any], type[TriptychError], str]] = {
    "unknown tensor": ({"blk.0.ffn_gate_inp.weight": NORM}, UnsupportedFormatError, "ffn_gate_inp"),
    "layer too many": ({"blk.2.attn_norm.weight": NORM}, UnsupportedFormatError, "blk.2"),
    "a layer spelt otherwise": ({"blk.00.attn_norm.weight": NORM}, UnsupportedFormatError, "blk.00"),
    "half a bias": ({"blk.0.attn_q.bias": NORM}, InconsistentCheckpointError, "attn_k.bias"),
    "experts": ({"llama.expert_count": 8}, UnsupportedFormatError, "expert_count"),
    "yarn": ({"llama.rope.scaling.type": "yarn"}, ConfigError, "yarn"),
    "layout": ({"llama.tensor_data_layout": "other"}, ConfigError, "tensor_data_layout"),
    "an adapter": ({"general.type": "adapter"}, UnsupportedFormatError, "adapter"),
    "one of two files": ({"split.count": 2}, UnsupportedFormatError, "2 files"),
}  # fmt: skip


@pytest.mark.parametrize("case", STRANGE)
def test_what_the_config_cannot_say_is_refused(case: str, tmp_path: Path) -> None:
    extra, error, match = STRANGE[case]
    with pytest.raises(error, match=match):
        open_gguf(write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), extra=extra))


SETTINGS: dict[str, tuple[bytes, type[TriptychError]]] = {  # replaced in the file by text of the same length
    "general.architecture": (b"mamba", UnsupportedFormatError),
    "llama.block_count": (struct.pack("<I", 3), InconsistentCheckpointError),
    "llama.embedding_length": (struct.pack("<I", 64), ShapeMismatchError),
    "llama.attention.head_count": (struct.pack("<I", 3), ConfigError),
    "llama.attention.head_count_kv": (struct.pack("<I", 4), ShapeMismatchError),
    "llama.attention.key_length": (struct.pack("<I", 7), UnsupportedFormatError),
    "llama.attention.layer_norm_rms_epsilon": (struct.pack("<f", math.nan), ConfigError),
    "llama.rope.freq_base": (struct.pack("<f", -1), ConfigError),
    "llama.context_length": (struct.pack("<I", 0), ConfigError),
    "tokenizer.ggml.bos_token_id": (struct.pack("<I", 48), ConfigError),
}


def replace_value(path: Path, key: str, value: bytes) -> None:
    """Overwrite the value of `key`: after the key come the type (4 bytes) and, for text, the length (8)."""
    data = bytearray(path.read_bytes())
    start = data.index(key.encode()) + len(key)
    start += 12 if data[start] == 8 else 4
    data[start : start + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize("key", SETTINGS)
def test_settings_that_contradict_the_tensors_are_refused(key: str, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"))
    value, error = SETTINGS[key]
    replace_value(path, key, value)
    with pytest.raises(error) as caught:
        open_gguf(path)
    assert type(caught.value) is error


def test_an_impossible_number_of_layers_costs_nothing(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"))
    replace_value(path, "llama.block_count", struct.pack("<I", 2**31 - 1))
    started = time.monotonic()
    with pytest.raises(InconsistentCheckpointError):
        open_gguf(path)
    assert time.monotonic() - started < 5


def test_the_base_of_the_rotary_embedding_is_that_of_llama_where_the_file_says_none(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama", rope_parameters=LLAMA3))
    assert open_gguf(path).config["rope_theta"] == LLAMA3["rope_theta"]
    path.write_bytes(path.read_bytes().replace(b"llama.rope.freq_base", b"other.rope.freq_base"))
    assert open_gguf(path).config["rope_theta"] == 10000


def test_a_token_that_is_none_is_none(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"))
    replace_value(path, "tokenizer.ggml.padding_token_id", struct.pack("<I", 2**32 - 1))
    assert open_gguf(path).config["pad_token_id"] is None


def test_without_the_package_only_quantised_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = write_gguf(tmp_path / "plain.gguf", "llama", make_model("llama"), "F16")
    quantised = write_gguf(tmp_path / "quantised.gguf", "llama", make_model("llama"), "Q8_0")
    types.block_of.cache_clear()
    monkeypatch.setitem(sys.modules, "gguf", None)
    assert len(open_gguf(plain).tensors) == 21
    with pytest.raises(MissingBackendError, match=r"triptych\[gguf\]"):
        open_gguf(quantised)


# -- damaged files -------------------------------------------------------------------------------------------------


def text(value: str | bytes, length: int | None = None) -> bytes:
    data = value if isinstance(value, bytes) else value.encode()
    return struct.pack("<Q", len(data) if length is None else length) + data


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def tensor(name: str = "w", shape: tuple[int, ...] = (8,), kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def raw(
    keys: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] | None = None,
) -> bytes:
    keys, tensors = keys or [], tensors or []
    counts = counts or (len(tensors), len(keys))
    head = b"GGUF" + struct.pack("<IQQ", version, *counts) + b"".join([*keys, *tensors])
    return head + b"\0" * (-len(head) % 32) + data


U32 = struct.pack("<I", 1)
HUGE = 2**60
BAD_FILES: dict[str, tuple[bytes, type[TriptychError]]] = {
    "empty": (b"", TruncatedCheckpointError),
    "three bytes": (b"GGU", TruncatedCheckpointError),
    "magic": (b"GGML" + bytes(60), CorruptCheckpointError),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", CorruptCheckpointError),
    "version 1": (raw(version=1), UnsupportedFormatError),
    "version 4": (raw(version=4), UnsupportedFormatError),
    "big-endian": (raw(version=0x03000000), UnsupportedFormatError),
    "tensors without end": (raw(counts=(HUGE, 0)), LimitError),
    "keys without end": (raw(counts=(0, HUGE)), LimitError),
    "as many keys as may be": (raw(counts=(0, 2**18)), CorruptCheckpointError),
    "a key without end": (raw([text("a", HUGE)]), CorruptCheckpointError),
    "text without end": (raw([entry("a", 8, text("b", 2**27 - 1))]), CorruptCheckpointError),
    "numbers without end": (raw([entry("a", 9, struct.pack("<IQ", 0, HUGE))]), TruncatedCheckpointError),
    "texts without end": (raw([entry("a", 9, struct.pack("<IQ", 8, HUGE))]), TruncatedCheckpointError),
    "arrays of arrays": (raw([entry("a", 9, struct.pack("<IQ", 9, 1) + bytes(16))]), UnsupportedFormatError),
    "unknown value type": (raw([entry("a", 13, U32)]), CorruptCheckpointError),
    "unknown element type": (raw([entry("a", 9, struct.pack("<IQ", 99, 1))]), CorruptCheckpointError),
    "a truth value of 2": (raw([entry("a", 7, b"\2")]), CorruptCheckpointError),
    "key not utf-8": (raw([entry(b"\xff", 4, U32)]), CorruptCheckpointError),
    "value not utf-8": (raw([entry("a", 8, text(b"\xff"))]), CorruptCheckpointError),
    "key twice": (raw([entry("a", 4, U32)] * 2), CorruptCheckpointError),
    "alignment 0": (raw([entry("general.alignment", 4, bytes(4))]), CorruptCheckpointError),
    "alignment text": (raw([entry("general.alignment", 8, text("32"))]), CorruptCheckpointError),
    "alignment array": (raw([entry("general.alignment", 9, struct.pack("<IQI", 4, 1, 32))]), CorruptCheckpointError),
    "tensor twice": (raw([], [tensor(), tensor(offset=32)], bytes(64)), CorruptCheckpointError),
    "overlap": (raw([], [tensor("a"), tensor("b")], bytes(64)), CorruptCheckpointError),
    "hole": (raw([], [tensor(offset=32)], bytes(64)), CorruptCheckpointError),
    "offset without end": (raw([], [tensor(offset=2**64 - 32)], bytes(32)), CorruptCheckpointError),
    "data short": (raw([], [tensor()], bytes(31)), TruncatedCheckpointError),
    "data long": (raw([], [tensor()], bytes(33)), CorruptCheckpointError),
    "rank 0": (raw([], [tensor(shape=())], bytes(32)), CorruptCheckpointError),
    "rank 5": (raw([], [tensor(shape=(1,) * 5)], bytes(32)), CorruptCheckpointError),
    "rank without end": (raw([], [text("w") + struct.pack("<I", 2**32 - 1)]), CorruptCheckpointError),
    "zero length": (raw([], [tensor(shape=(0,))]), CorruptCheckpointError),
    "wrapping product": (raw([], [tensor(shape=(2**40, 2**40))], bytes(32)), TruncatedCheckpointError),
    "a zero length of two": (raw([], [tensor(shape=(8, 0))]), CorruptCheckpointError),
    "huge length": (raw([], [tensor(shape=(2**63,))], bytes(32)), CorruptCheckpointError),
    "long name": (raw([], [tensor("w" * 65)], bytes(32)), CorruptCheckpointError),
    "unknown type": (raw([], [tensor(kind=77)], bytes(32)), UnsupportedFormatError),
    "removed type": (raw([], [tensor(kind=4)], bytes(32)), UnsupportedFormatError),
    "type without dequantisation": (raw([], [tensor(shape=(256,), kind=15)], bytes(320)), UnsupportedFormatError),
    "part of a block": (raw([], [tensor(shape=(31,), kind=8)], bytes(64)), CorruptCheckpointError),
    "no architecture": (raw([], [tensor()], bytes(32)), UnsupportedFormatError),
    "architecture a list": (raw([entry("general.architecture", 9, struct.pack("<IQ", 4, 0))]), UnsupportedFormatError),
    "no tensors": (raw([entry("general.architecture", 8, text("llama"))]), InconsistentCheckpointError),
    "settings as lists": (
        raw([entry("general.architecture", 8, text("llama")),
             entry("llama.embedding_length", 9, struct.pack("<IQII", 4, 2, 1, 2))],
            [tensor("token_embd.weight", (8, 1))], bytes(32)),
        ConfigError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_gguf_is_refused_soon(name: str, tmp_path: Path) -> None:
    content, error = BAD_FILES[name]
    path = tmp_path / "m.gguf"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(error) as caught:
        open_gguf(path)
    assert time.monotonic() - started < 5
    assert path.name in str(caught.value)
    if name == "git lfs":
        assert "git lfs pull" in str(caught.value)


def test_too_many_strings_are_refused_within_bounds(tmp_path: Path) -> None:
    path, count = tmp_path / "m.gguf", 5_000_000
    path.write_bytes(raw([entry("a", 9, struct.pack("<IQ", 8, count) + bytes(8 * count))]))
    with pytest.raises(LimitError, match="strings"):
        open_gguf(path)


def test_a_header_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(raw([entry("a", 9, struct.pack("<IQ", 0, 2**40))]))
    os.truncate(path, 2**41)  # sparse
    with pytest.raises(LimitError, match="header"):
        open_gguf(path)


def test_a_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.gguf")
    with pytest.raises(UnsupportedFormatError, match="regular file"):
        open_gguf(tmp_path / "m.gguf")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0")
    whole, last = path.read_bytes(), list(read_header(path).tensors.values())[-1]
    starts = min(info.start for info in read_header(path).tensors.values())
    end = last.start + last.nbytes  # what follows is padding
    for length in [*range(starts), *range(starts, end, 61), end - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(TruncatedCheckpointError):
            open_gguf(path)


def read_all(opened: GgufFile) -> dict[str, np.ndarray]:
    return {name: ref.read() for name, ref in opened.tensors.items()}


@pytest.mark.parametrize("change", [lambda b: b ^ 1, lambda b: b ^ 0x80, lambda b: 0xFF, lambda b: 0])
def test_damage_is_an_error_or_changes_values_only(change: Callable[[int], int], tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"), "Q8_0")
    whole = path.read_bytes()
    shapes = {name: array.shape for name, array in read_all(open_gguf(path)).items()}
    start = min(info.start for info in read_header(path).tensors.values())
    outcomes = {"error": 0, "read": 0}
    for position in [*range(start), *range(start, len(whole), 499)]:
        damaged = bytearray(whole)
        damaged[position] = change(damaged[position])
        path.write_bytes(damaged)
        try:
            assert {name: array.shape for name, array in read_all(open_gguf(path)).items()} == shapes
            outcomes["read"] += 1
        except TriptychError:
            outcomes["error"] += 1
    assert min(outcomes.values()) > 50


def test_a_file_cut_after_opening_is_an_error(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m.gguf", "llama", make_model("llama"))
    ref = open_gguf(path).tensors["model.norm.weight"]
    os.truncate(path, 100)
    with pytest.raises(ChangedFileError):
        ref.read()


# -- a real model --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smollm2() -> GgufFile:
    return open_gguf(smollm2_path())


def test_smollm2_is_described(smollm2: GgufFile) -> None:
    wanted = {"model_type": "llama", "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9,
              "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": True,
              "rope_theta": 100000.0, "rms_norm_eps": 1e-5, "head_dim": 64}  # fmt: skip
    assert {key: smollm2.config[key] for key in wanted} == wanted
    assert sum(math.prod(ref.shape) for ref in smollm2.tensors.values()) == 134_515_008


def test_smollm2_tokenizer(smollm2: GgufFile) -> None:
    tokenizer = build_tokenizer(smollm2.metadata)
    sample = "Hello, world! 2024 été\n<|im_start|>"
    ids = tokenizer.encode(sample).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == sample
    assert ids[-1] == 1 and [tokenizer.id_to_token(i) for i in tokenizer.encode("a 20").ids] == ["a", "Ġ", "2", "0"]


def test_smollm2_converted_continues_as_it_should(smollm2: GgufFile, tmp_path: Path) -> None:
    write(open_draft(smollm2.path), tmp_path / "smollm2")
    model = LlamaForCausalLM.from_pretrained(tmp_path / "smollm2").eval()
    assert model.num_parameters() == 134_515_008
    tokenizer = open_texts(tmp_path / "smollm2")
    ids = torch.tensor([tokenizer.encode("The capital of France is")])
    new = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)[0, ids.shape[1] :]
    assert tokenizer.decode(new.tolist()).startswith(" Paris")


def test_smollm2_is_read_as_transformers_reads_it(smollm2: GgufFile) -> None:
    path = smollm2.path
    theirs = LlamaForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).state_dict()
    for name, ref in smollm2.tensors.items():
        assert np.array_equal(ref.read(), theirs[name].numpy()), name
