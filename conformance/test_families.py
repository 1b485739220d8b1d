"""Every built-in class computes what transformers 5 computes, in every framework, on random weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from small_models import (
    CLASSES,
    LABELLED,
    PLAIN,
    config_of,
    inputs_of,
    labels_of,
    mask_of,
    random_folder,
    random_inputs,
)
from triptych import ArgumentError, CheckpointError, ConfigError, open_checkpoint
from triptych.errors import MissingFileError
from triptych.formats.kinds import SAVE_ID
from triptych_conformance import BACKENDS, Backend, assert_close, compare
from witness import assert_none, calls_of, calls_that_differ


def compared(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], mask: np.ndarray, who: str) -> None:
    for name in sorted(theirs, key=by_layer):
        assert_close(ours[name], theirs[name], mask, f"{who} {name}")


def by_layer(name: str) -> tuple[bool, bool]:
    """Sort outputs such that a difference is first seen where it arises: layers, the encoder's before the decoder's."""
    return "." not in name, not name.startswith("encoder")


@pytest.mark.parametrize(("variant", "stem"), CLASSES)
def test_as_transformers_5(variant: str, stem: str, tmp_path: Path) -> None:
    import transformers

    config = config_of(variant, stem)
    folder = random_folder(tmp_path, config, stem)
    inputs = inputs_of(stem, config)
    reference = getattr(transformers, stem).from_pretrained(folder, attn_implementation="eager").eval()
    everything = {"output_hidden_states": True, "output_attentions": True}
    mask = mask_of(inputs)
    theirs, expected = calls_of(reference, lambda: BACKENDS[0].run(reference, inputs, **everything))
    assert any("attentions" in name for name in theirs)
    for backend in BACKENDS:
        model = backend.load(stem, folder, strict=True)
        if backend.name == "pt":  # whose layers have the names of transformers'
            _, calls = calls_of(model, lambda model=model: BACKENDS[0].run(model, inputs))
            assert_none(calls_that_differ(calls, expected, lambda *pair: compare(*pair, mask).fraction <= 1))
        ours = backend.run(model, inputs, **everything)
        assert set(ours) == set(theirs), backend.name
        compared(ours, theirs, mask, backend.name)


MASKS_OF_OPT = {"left": [0, 0, 1, 1, 1, 1, 1], "hole": [1, 1, 0, 0, 1, 1, 1], "right": [1, 1, 1, 1, 1, 0, 0]}


@pytest.mark.parametrize("dtype", [np.int64, np.float32, bool])
@pytest.mark.parametrize("padding", MASKS_OF_OPT)
def test_opt_counts_positions_over_the_mask(padding: str, dtype: type, tmp_path: Path) -> None:
    import transformers

    config = config_of("opt")
    folder = random_folder(tmp_path, config, "OPTForCausalLM")
    mask = np.array([[1] * 7, MASKS_OF_OPT[padding]])
    words = np.random.default_rng(3).standard_normal((2, 7, config.word_embed_proj_dim)).astype(np.float32)
    positions = np.array([[5, 0, 13, 2, 1, 9, 4]] * 2)
    reference = transformers.OPTForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    for inputs in ({"inputs_embeds": words}, {"inputs_embeds": words, "position_ids": positions}):
        theirs = BACKENDS[0].run(reference, {**inputs, "attention_mask": mask})
        for backend in BACKENDS:
            ours = backend.run(backend.load("OPTForCausalLM", folder), {**inputs, "attention_mask": mask.astype(dtype)})
            compared(ours, theirs, mask, backend.name)


def test_a_mask_for_each_query_counts_no_positions(backend: Backend, tmp_path: Path) -> None:
    config = config_of("opt")
    model = backend.load("OPTModel", random_folder(tmp_path, config, "OPTModel"))
    inputs = {"input_ids": random_inputs(config)["input_ids"], "attention_mask": np.ones((2, 11, 11), np.int64)}
    with pytest.raises(ArgumentError, match="(?s)Positions.*position_ids"):
        backend.run(model, inputs)
    whole = backend.run(model, {"input_ids": inputs["input_ids"]})
    found = backend.run(model, {**inputs, "position_ids": np.arange(11)[None]})
    compared(found, whole, np.ones((2, 11)), backend.name)


@pytest.mark.parametrize(("kind", "stem"), LABELLED)
def test_losses_are_those_of_transformers_5(kind: str, stem: str, tmp_path: Path) -> None:
    import transformers

    config = config_of(kind, stem)
    folder = random_folder(tmp_path, config, stem)
    inputs = inputs_of(stem, config)
    inputs |= labels_of(stem, config, inputs)
    reference = getattr(transformers, stem).from_pretrained(folder, attn_implementation="eager").eval()
    theirs = BACKENDS[0].run(reference, inputs)
    losses = [name for name in theirs if name.endswith("loss")]
    assert losses
    for backend in BACKENDS:
        ours = backend.run(backend.load(stem, folder), inputs)
        for name in losses:
            assert_close(ours[name], theirs[name], what=f"{backend.name} {name}")


@pytest.mark.parametrize(("kind", "stem"), PLAIN)
def test_pruned_heads_equal_masked_heads(kind: str, stem: str, tmp_path: Path) -> None:
    """What each framework saves is the same, bit for bit, so it is enough that each loads what another one saved."""
    config = config_of(kind, stem)
    folder = random_folder(tmp_path, config, stem)
    inputs = inputs_of(stem, config)
    heads, masks = HEADS[kind], MASKS[kind](config)
    if stem in ("T5EncoderModel", "T5ForTokenClassification"):
        heads, masks = {0: [1], 1: [0, 2]}, {"head_mask": masks["head_mask"]}
    saved = []
    for backend in BACKENDS:
        model = backend.load(stem, folder)
        whole = backend.run(model, inputs)
        masked = backend.run(model, {**inputs, **masks})
        model.prune_heads(heads)
        pruned = backend.run(model, inputs)
        name = next(iter(pruned))
        compared(pruned, masked, mask_of(inputs), f"{backend.name}, pruned")
        assert compare(pruned[name], whole[name], mask_of(inputs)).fraction > 100, backend.name
        assert model.config.pruned_heads == heads
        assert model._derive_schema().summary() == model.schema.summary()
        model.save_pretrained(tmp_path / backend.name)
        saved.append(checkpoint_of(tmp_path / backend.name))
    assert all(one == saved[0] for one in saved)
    for backend, saver in zip(BACKENDS, BACKENDS[1:] + BACKENDS[:1], strict=True):
        again = backend.run(backend.load(stem, tmp_path / saver.name, strict=True), inputs)
        compared(again, pruned, mask_of(inputs), f"saved, {backend.name}")


def checkpoint_of(folder: Path) -> tuple[dict[str, object], dict[str, tuple[str, tuple[int, ...], bytes]]]:
    """Return the config of a folder, without the id of its save, and dtype, shape and bytes of its weights by name."""
    config = {
        name: value for name, value in json.loads((folder / "config.json").read_text()).items() if name != SAVE_ID
    }
    arrays = {name: ref.read() for name, ref in open_checkpoint(folder).items()}
    return config, {name: (array.dtype.name, array.shape, array.tobytes()) for name, array in arrays.items()}


def _mask(config: object, layers: int, heads: int, gone: dict[int, list[int]]) -> np.ndarray:
    mask = np.ones((layers, heads), np.float32)
    for layer, numbers in gone.items():
        mask[layer, numbers] = 0
    return mask


def _plain(gone: dict[int, list[int]]) -> object:
    return lambda c: {"head_mask": _mask(c, c.num_hidden_layers, c.num_attention_heads, gone)}


TWO = {0: [1], 1: [0, 2]}
GROUPS = {0: [2, 3], 1: [0, 3, 4], 2: [0, 1, 2, 3, 5]}  # a whole group; one of every group; all but one head
HEADS: dict[str, dict[int, list[int]]] = {
    kind: TWO for kind in ("bert", "distilbert", "electra", "gpt2", "opt", "roberta")
}
HEADS |= {kind: GROUPS for kind in ("llama", "mistral", "qwen2", "qwen3")}
HEADS["t5"] = {0: [1], 1: [0, 2], 2: [0], 4: [1, 2], 5: [2], 7: [0, 1]}
MASKS = {kind: _plain(heads) for kind, heads in HEADS.items()}
MASKS["t5"] = lambda c: {
    "head_mask": _mask(c, 2, 3, TWO),
    "decoder_head_mask": _mask(c, 3, 3, {0: [0], 2: [1, 2]}),
    "cross_attn_head_mask": _mask(c, 3, 3, {0: [2], 2: [0, 1]}),
}


@pytest.mark.parametrize("heads", [{0: [0]}, {1: [0, 1, 2]}, {0: [0, 2]}])
def test_groups_of_different_sizes_are_refused(backend: Backend, heads: dict[int, list[int]], tmp_path: Path) -> None:
    folder = random_folder(tmp_path, config_of("llama"), "LlamaForCausalLM")
    model = backend.load("LlamaForCausalLM", folder)
    with pytest.raises(ArgumentError, match="groups of different sizes"):
        model.prune_heads(heads)
    assert model.config.pruned_heads == {}
    with pytest.raises(ConfigError, match="groups of different sizes"):
        backend.cls("LlamaModel")(config_of("llama", pruned_heads=heads))


@pytest.mark.parametrize(("kind", "stem"), PLAIN)
@pytest.mark.parametrize("size", [40, 20])
def test_resized_vocabularies_agree(kind: str, stem: str, size: int, tmp_path: Path) -> None:
    config = config_of(kind, stem)
    folder = random_folder(tmp_path, config, stem)
    inputs = {name: ids % 20 for name, ids in inputs_of(stem, config).items()}
    results = []
    for backend in BACKENDS:
        model = backend.load(stem, folder)
        model.resize_token_embeddings(size)
        results.append((backend.weights(model), backend.run(model, inputs)))
        assert model.config.vocab_size == size
        assert model._derive_schema().summary() == model.schema.summary()
    for backend, (weights, outputs) in zip(BACKENDS[1:], results[1:], strict=True):
        assert all(weights[name].tobytes() == array.tobytes() for name, array in results[0][0].items())
        compared(outputs, results[0][1], mask_of(inputs), backend.name)


@pytest.mark.parametrize(("kind", "stem"), PLAIN)
def test_new_models_train(backend: Backend, kind: str, stem: str) -> None:
    """A model made from a config has finite outputs; dropout is on while training, and only then."""
    config = config_of(kind, stem)
    model = backend.cls(stem).from_config(config)
    inputs = inputs_of(stem, config)
    once = backend.run(model.eval() if backend.name == "pt" else model, inputs)
    assert all(np.isfinite(value).all() for value in once.values())
    again = backend.run(model, inputs)
    assert all(np.array_equal(value, again[name]) for name, value in once.items())
    trained = trained_run(backend, model, inputs)
    changed = any(not np.array_equal(value, trained[name]) for name, value in once.items())
    drops = config.model_type not in ("llama", "mistral", "qwen2", "qwen3") or stem.endswith("TokenClassification")
    assert changed == drops


def trained_run(backend: Backend, model: object, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    from triptych_conformance.parity import flat

    if backend.name == "pt":
        return backend.run(model.train(), inputs)  # type: ignore[attr-defined]
    if backend.name == "tf":
        return flat(model(**inputs, training=True))  # type: ignore[operator]
    import jax

    return flat(model(**inputs, train=True, dropout_rng=jax.random.PRNGKey(1)))  # type: ignore[operator]


def test_a_family_of_another_class_is_refused(
    backend: Backend, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = random_folder(tmp_path, config_of("gpt2"), "GPT2LMHeadModel")
    with pytest.raises(CheckpointError, match="lacks weights of the model"):
        backend.load("LlamaForCausalLM", folder)
    assert "made of a config of model_type 'gpt2'" in caplog.text
    with pytest.raises(ConfigError, match="AutoModelForMaskedLM"):
        backend.load("AutoModelForMaskedLM", folder)
    with pytest.raises(MissingFileError):
        backend.load("AutoModelForCausalLM", tmp_path / "nowhere")
    assert type(backend.load("AutoModelForCausalLM", folder)) is backend.cls("GPT2LMHeadModel")
