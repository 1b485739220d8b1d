"""Every family in bfloat16 and float16, in each framework; and the arguments that ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import ml_dtypes
import numpy as np
import pytest
import torch

from small_models import SMALL, config_of, decoder_inputs, random_folder, random_inputs, stems_of
from triptych import (
    ArgumentError,
    BertConfig,
    EncoderDecoderConfig,
    PretrainedConfig,
    TensorRef,
    open_checkpoint,
    save_checkpoint,
)
from triptych_conformance import BACKENDS, Backend, assert_close_in_low_precision

HEADS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "ForMaskedLM")
STEMS = {kind: next(stem for head in HEADS for stem in stems_of(kind) if stem.endswith(head)) for kind in SMALL}
STEMS["encoder_decoder"] = "EncoderDecoderModel"
DTYPES = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}
Arrays = dict[str, np.ndarray]


def config_for(kind: str) -> PretrainedConfig:
    if kind != "encoder_decoder":
        return config_of(kind, STEMS[kind])
    return EncoderDecoderConfig.from_encoder_decoder_configs(
        config_of("bert"), config_of("gpt2"), decoder_start_token_id=1, pad_token_id=0
    )


def inputs_for(kind: str) -> Arrays:
    config = config_for(kind)
    inputs = random_inputs(config if kind != "encoder_decoder" else config_of("bert"))
    if kind == "encoder_decoder":
        return {**inputs, "decoder_input_ids": inputs["input_ids"][:, :7]}
    return {**inputs, **decoder_inputs(STEMS[kind], config)}


def write(folder: Path, kind: str, dtype: str, of_wo: float = 1.0) -> Path:
    """Write a random checkpoint of `dtype`, in which the weights `wo` of T5 are `of_wo` times as large."""
    random_folder(folder, config_for(kind), STEMS[kind])
    wide = {name: ref.read() * (of_wo if ".wo." in name else 1) for name, ref in open_checkpoint(folder).items()}
    refs = [TensorRef.of(name, array.astype(DTYPES[dtype])) for name, array in wide.items()]
    save_checkpoint(folder, refs, (folder / "config.json").read_text())
    return folder


def transformers_says(kind: str, folder: Path, dtype: str) -> np.ndarray:
    import transformers

    model = getattr(transformers, STEMS[kind]).from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    with torch.no_grad():
        made = model(**{name: torch.tensor(value) for name, value in inputs_for(kind).items()})
    return np.asarray(made.logits.float())


def outputs_of(backend: Backend, kind: str, folder: Path, dtype: str) -> Arrays:
    """Return logits and hidden states; of Flax compiled, which takes a third of the time."""
    model, options = backend.load(STEMS[kind], folder, dtype=dtype, param_dtype=dtype), {"output_hidden_states": True}
    if backend.name != "flax":
        return backend.run(model, inputs_for(kind), **options)
    import jax

    made = jax.jit(lambda params: dict(model(**inputs_for(kind), **options, params=params)))(model.params)
    flat = {name: value for name, value in made.items() if name != "past_key_values"}
    several = {f"{n}.{i}": one for n, v in flat.items() if isinstance(v, tuple) for i, one in enumerate(v)}
    return {n: np.asarray(v, np.float32) for n, v in {**flat, **several}.items() if not isinstance(v, tuple)}


CASES = [
    *(("pt", kind, dtype) for kind in STEMS for dtype in DTYPES),
    # In bfloat16 there are the recorded models (test_outputs.py), and `tests/accept_big_precision.py` has them all.
    *((name, kind, "float16") for name in ("tf", "flax") for kind in ("bert", "llama")),
]


@pytest.mark.parametrize(("name", "kind", "dtype"), CASES, ids=map("-".join, CASES))
def test_a_family_is_about_as_close_to_float32_as_transformers_is(
    name: str, kind: str, dtype: str, tmp_path: Path
) -> None:
    backend = next(one for one in BACKENDS if one.name == name)
    folder, mask = write(tmp_path, kind, dtype), inputs_for(kind)["attention_mask"]
    exact, theirs = (transformers_says(kind, folder, one) for one in ("float32", dtype))
    ours = outputs_of(backend, kind, folder, dtype)["logits"]
    assert not np.array_equal(ours, exact)
    assert_close_in_low_precision(ours, exact, theirs, mask if ours.shape[1] == mask.shape[1] else None)


@pytest.mark.parametrize("kind", ["bert", "distilbert", "gpt2", "llama", "opt", "t5"])
def test_flax_computes_in_the_dtype_asked_for_whatever_its_parameters_have(kind: str, tmp_path: Path) -> None:
    import jax

    random_folder(tmp_path, config_for(kind), STEMS[kind])
    model = next(one for one in BACKENDS if one.name == "flax").load(STEMS[kind], tmp_path, dtype="bfloat16")
    assert {leaf.dtype for leaf in jax.tree.leaves(model.params)} == {np.dtype(np.float32)}
    run = lambda params: dict(model(**inputs_for(kind), output_hidden_states=True, params=params))  # noqa: E731
    made = jax.eval_shape(run, model.params)
    dtypes = {name: {leaf.dtype for leaf in jax.tree.leaves(made[name])} for name in made if name != "past_key_values"}
    assert dtypes == dict.fromkeys(dtypes, {DTYPES["bfloat16"]})


def test_states_of_t5_may_leave_the_range_of_float16(backend: Backend, tmp_path: Path) -> None:
    folder = write(tmp_path, "t5", "float16", of_wo=30000.0)
    exact, theirs = (transformers_says("t5", folder, one) for one in ("float32", "float16"))
    model = backend.load(STEMS["t5"], folder, dtype="float16", param_dtype="float16")
    kept = {name for name, array in backend.weights(model).items() if array.dtype == np.float32}
    assert kept == {name for name in open_checkpoint(folder) if ".wo." in name}
    outputs = outputs_of(backend, "t5", folder, "float16")
    states = outputs["decoder_hidden_states.2"]
    assert max(states.max(), -states.min()) > np.finfo(np.float16).max
    assert_close_in_low_precision(outputs["logits"], exact, theirs)
    if backend.name == "pt":  # `wo` too is half: what would leave the range stays at its end
        assert np.isfinite(backend.run(model.half(), inputs_for("t5"))["logits"]).all()


def test_auto_follows_the_config_and_then_the_files(backend: Backend, tmp_path: Path) -> None:
    def dtypes(model: Any) -> tuple[set[str], str]:
        computed = str(model.compute_dtype if backend.name == "tf" else model.dtype).removeprefix("torch.")
        return {array.dtype.name for array in backend.weights(model).values()}, computed

    write(tmp_path, "bert", "bfloat16")
    assert dtypes(backend.load(STEMS["bert"], tmp_path, dtype="auto")) == ({"bfloat16"}, "bfloat16")
    config = BertConfig.from_pretrained(tmp_path, dtype="float16")
    held, computed = dtypes(backend.load(STEMS["bert"], tmp_path, config=config, torch_dtype="auto"))
    assert (held, computed) == ({"float16" if backend.name == "pt" else "bfloat16"}, "float16")
    cls = backend.cls(STEMS["bert"])
    options = {} if backend.name != "flax" else {"_do_init": False}  # new values take seconds to compile
    for wanted, said in (("float16", {"torch_dtype": "auto"}), ("float32", {})):
        model = cls.from_config(config, **said, **options)
        assert wanted in str(model.compute_dtype if backend.name == "tf" else model.dtype)


def test_only_floating_dtypes_are_taken(backend: Backend, tmp_path: Path) -> None:
    cls, config = backend.cls("BertModel"), config_of("bert")
    random_folder(tmp_path, config, "BertModel")
    for dtype in ("int8", "half", "float8_e4m3fn", np.int32, np.dtype(bool), torch.int8, np.complex64):
        with pytest.raises(ArgumentError, match="float"):
            cls.from_pretrained(tmp_path, dtype=dtype)
        with pytest.raises(ArgumentError, match="float"):
            cls.from_pretrained(tmp_path, param_dtype=dtype)
        with pytest.raises(ArgumentError, match="float"):
            cls.from_config(config, torch_dtype=dtype)


@pytest.mark.parametrize("name", ["pt", "tf"])
def test_the_default_dtype_is_as_before_when_a_constructor_fails(name: str, tmp_path: Path) -> None:
    backend = next(one for one in BACKENDS if one.name == name)
    random_folder(tmp_path, config_of("bert"), "BertModel")
    seen: list[Any] = []

    def defaults() -> Any:
        return torch.get_default_dtype(), keras.config.dtype_policy().name

    class Failing(backend.cls("BertModel")):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            seen.append((defaults(), str(kwargs.get("dtype", ""))))
            raise RuntimeError("in the middle")

    before = defaults()
    for make in (
        lambda: Failing.from_config(config_of("bert"), dtype="float16"),
        lambda: Failing.from_pretrained(tmp_path, dtype="float16"),
    ):
        with pytest.raises(RuntimeError, match="in the middle"):
            make()
        assert defaults() == before
    assert any("float16" in str(one) for one in seen)
