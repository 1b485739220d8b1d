"""Rows of the contract about Flax: modules around and within built-in ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from flax_author import BERT, IDS, FlaxPicture, PictureModule, picture, warnings_of
from small_models import config_of
from triptych import (
    BertConfig,
    FlaxBertForMaskedLM,
    FlaxBertModel,
    FlaxPreTrainedModel,
    FlaxT5ForConditionalGeneration,
    FlaxT5Model,
    TriptychError,
    open_checkpoint,
)
from triptych_conformance import Backend, assert_close
from triptych_flax.bert import FlaxBertForMaskedLMModule, FlaxBertModule
from walk import row


@row("7.42", "the order of transformers 4 first; arguments that it did not have come after", flax="Y")
def the_order_of_a_call(backend: Backend, folder: Path) -> None:
    model = FlaxBertForMaskedLM.from_pretrained(BERT.folder)
    expected = model(IDS, token_type_ids=np.ones_like(IDS), output_hidden_states=True)
    mask, types, places = np.ones_like(IDS), np.ones_like(IDS), np.arange(4)[None]
    other = jax.tree.map(jnp.zeros_like, model.params)
    given = (IDS, mask, types, places, None, None, None, model.params, None, False, None, True)
    found = model(*given)
    assert_close(found.logits, expected.logits)
    assert len(found.hidden_states) == len(expected.hidden_states)
    assert not np.array_equal(model(*given[:7], other).logits, expected.logits)
    with pytest.raises(TriptychError, match="input_ids twice"):
        model(IDS, input_ids=IDS)
    dropped = model(*given[:8], jax.random.PRNGKey(0), True).logits
    assert not np.array_equal(dropped, expected.logits)


class AroundModule(nn.Module):
    config: Any
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.bert = FlaxBertModule(config=self.config, dtype=self.dtype)
        self.classifier = nn.Dense(2, dtype=self.dtype)

    def __call__(self, input_ids: Any, deterministic: bool = True) -> Any:
        return self.classifier(self.bert(input_ids, None, deterministic=deterministic, init_cache=False)[1])


class FlaxAround(FlaxPreTrainedModel):
    config_class = BertConfig
    base_model_prefix = "bert"
    module_class: ClassVar[Any] = AroundModule


@row("7.12", flax="Y")
def a_module_around_a_built_in_one(backend: Backend, folder: Path) -> None:
    FlaxBertModel(config_of("bert")).save_pretrained(folder / "base")
    model, info = FlaxAround.from_pretrained(folder / "base", output_loading_info=True)
    assert set(info["missing_keys"]) == {"classifier.weight", "classifier.bias"}
    calm = model(IDS)
    noise = {"dropout": jax.random.PRNGKey(0)}
    assert np.array_equal(model.module.apply({"params": model.params}, IDS, True, rngs=noise), calm)
    assert not np.array_equal(model.module.apply({"params": model.params}, IDS, False, rngs=noise), calm)
    model.save_pretrained(folder / "all")
    assert np.array_equal(FlaxAround.from_pretrained(folder / "all", strict=True)(IDS), calm)
    with pytest.raises(TriptychError, match="init_cache"):
        FlaxBertModule(model.config).init(jax.random.PRNGKey(0), IDS, init_cache=True)


@row("7.44", flax="Y")
def encoding_and_decoding(backend: Backend, folder: Path) -> None:
    ids, mask = IDS[:, :2], np.array([[1, 0]])
    model = FlaxT5ForConditionalGeneration(config_of("t5", num_layers=1, num_decoder_layers=1))
    expected = model(ids, mask, ids)
    encoded = model.encode(ids, mask)
    assert_close(encoded.last_hidden_state, expected.encoder_last_hidden_state)
    decoded = model.decode(ids, encoded, mask, output_hidden_states=True, params=model.params)
    assert_close(decoded["logits"], expected.logits)
    assert len(decoded["hidden_states"]) == 2 and "encoder_last_hidden_state" not in decoded
    cache = model.init_cache(1, 2, encoded)
    for place in range(2):
        step = model.decode(ids[:, place : place + 1], encoded, mask, past_key_values=cache)
        cache = step["past_key_values"]
    assert_close(step["logits"][:, -1], expected.logits[:, -1])
    base = FlaxT5Model(model.config)
    assert base.decode(ids, encoded, return_dict=False)[0].shape == (1, 2, 12)


def _warnings_of_load(folder: Path, **options: Any) -> str:
    return warnings_of(lambda: FlaxPicture.from_pretrained(folder, **options))


@row(
    "7.57", "with `param_dtype='auto'`; else float32 as in the other frameworks, with a warning that says so", flax="Y"
)
@row(
    "8.46", "with `param_dtype='auto'`; else float32 as in the other frameworks, with a warning that says so", flax="Y"
)
def dtypes_of_the_file(backend: Backend, folder: Path) -> None:
    model, _, _ = picture()
    model.save_pretrained(folder, model.to_bf16(model.params))
    assert "stored in bfloat16 and become float32" in _warnings_of_load(folder)
    assert _warnings_of_load(folder, param_dtype="auto") == _warnings_of_load(folder, param_dtype="float32") == ""
    auto = FlaxPicture.from_pretrained(folder, param_dtype="auto")
    assert {leaf.dtype.name for leaf in jax.tree.leaves(auto.params)} == {"bfloat16"}


class WiderModule(FlaxBertForMaskedLMModule):
    def build_head(self, config: Any) -> None:
        FlaxBertForMaskedLMModule.build_head(self, config)
        self.norm = nn.BatchNorm(use_running_average=True)

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        found = FlaxBertForMaskedLMModule.__call__(self, *inputs, **options)
        return self.norm(found["logits"])


class FlaxWider(FlaxBertForMaskedLM):
    module_class: ClassVar[Any] = WiderModule


@row("7.71", flax="Y")
def a_built_in_class_with_a_norm_more(backend: Backend, folder: Path) -> None:
    model, info = FlaxWider.from_pretrained(BERT.folder, output_loading_info=True)
    added = {"norm.weight", "norm.bias", "norm.running_mean", "norm.running_var"}
    assert set(info["missing_keys"]) == added
    model.params["batch_stats"]["norm"]["mean"] += 2
    for number, how in enumerate(({}, {"safe_serialization": False})):
        model.save_pretrained(folder / str(number), **how)
        again = FlaxWider.from_pretrained(folder / str(number), strict=True)
        assert np.array_equal(again(IDS), model(IDS))
    assert set(open_checkpoint(folder / "0")) - set(open_checkpoint(BERT.folder)) == added


@row("11.1", flax="Y")
@row("11.5", flax="Y")
def surgery_on_parameters_outside(backend: Backend, folder: Path) -> None:
    model, params = FlaxBertForMaskedLM.from_pretrained(BERT.folder, _do_init=False)
    whole = FlaxBertForMaskedLM.from_pretrained(BERT.folder)
    whole.prune_heads({0: [1]})
    whole.resize_token_embeddings(120)
    with pytest.raises(TriptychError, match="params="):
        model.resize_token_embeddings(120)
    params = model.prune_heads({0: [1]}, params=params)
    params = model.resize_token_embeddings(120, params=params)
    assert model(IDS, params=params).logits.shape[-1] == 120 == model.config.vocab_size
    assert_close(model(IDS, params=params).logits, whole(IDS).logits)
    with pytest.raises(TriptychError, match="params="):
        _ = model.params
    other = whole.resize_token_embeddings(130, params=whole.params)
    assert whole.params is other and other["bert"]["embeddings"]["word_embeddings"]["embedding"].shape[0] == 130


@row("11.2", flax="Y")
def a_class_without_embeddings_is_saved(backend: Backend, folder: Path) -> None:
    class Headless(FlaxBertForMaskedLM):
        """Inherits accessors of weights that its module has not."""

        module_class = PictureModule
        main_input_name = "pixel_values"

    model = Headless(config_of("bert", width=4), input_shape=(1, 5, 5, 3))
    model.save_pretrained(folder)
    assert "conv.weight" in open_checkpoint(folder)
    assert FlaxBertForMaskedLM(config_of("bert")).get_input_embeddings().shape == (31, 12)
