"""What frameworks do with modules of theirs, they do with ours: pickling, compiling, exporting, rematerialising."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import triptych
from small_models import config_of, decoder_inputs, random_inputs
from triptych_conformance import assert_close

STEMS = {
    "bert": "BertForMaskedLM",
    "gpt2": "GPT2LMHeadModel",
    "llama": "LlamaForCausalLM",
    "t5": "T5ForConditionalGeneration",
}
KINDS = pytest.mark.parametrize("kind", STEMS)


def built(prefix: str, kind: str) -> tuple[Any, dict[str, np.ndarray]]:
    config = config_of(kind, STEMS[kind], initializer_range=0.5)
    model = getattr(triptych, prefix + STEMS[kind])(config)
    inputs = {**random_inputs(config, length=5), **decoder_inputs(STEMS[kind], config)}
    return model, inputs


def tensors(inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    import torch

    return {name: torch.tensor(value) for name, value in inputs.items()}


@KINDS
def test_pytorch_stores_compiles_and_exports(kind: str) -> None:
    import torch

    torch.manual_seed(0)
    model, inputs = built("", kind)
    model, inputs = model.eval(), tensors(inputs)
    with torch.no_grad():
        expected = model(**inputs).logits
        saved = io.BytesIO()
        torch.save(model, saved)
        saved.seek(0)
        # Its own bytes, made a line above: that torch stores whole modules of ours is what is tested.
        other = torch.load(saved, weights_only=False)
        assert type(other) is type(model) and torch.equal(other(**inputs).logits, expected)
        uncached = inputs if kind == "bert" else {**inputs, "use_cache": False}
        exported = torch.export.export(model, (), uncached).module()
        assert_close(exported(**uncached).logits.numpy(), expected.numpy())
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    output = compiled(**inputs, labels=inputs.get("decoder_input_ids", inputs["input_ids"]))
    assert_close(output.logits.detach().numpy(), expected.numpy())
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras's own, when it saves
@KINDS
def test_keras_saves_exports_and_compiles(kind: str, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model, inputs = built("TF", kind)
    inputs = {name: tf.constant(value, tf.int32) for name, value in inputs.items()}
    expected = model(inputs).logits
    compiled = tf.function(lambda batch: model(batch).logits, jit_compile=True)
    assert_close(compiled(inputs).numpy(), expected.numpy())
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert np.array_equal(again(inputs).logits.numpy(), expected.numpy())
    signature = {name: tf.TensorSpec((None, None), tf.int32, name=name) for name in inputs}
    serve = tf.function(lambda **batch: {"logits": model(batch).logits})
    module = tf.Module()
    module.model, module.serve = model, serve
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=serve.get_concrete_function(**signature))
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](**inputs)
    assert_close(served["logits"].numpy(), expected.numpy())


@KINDS
def test_jax_compiles_differentiates_and_rematerialises(kind: str) -> None:
    import jax
    from flax import linen as nn

    model, inputs = built("Flax", kind)
    expected = model(**inputs).logits
    compiled = jax.jit(lambda params, inputs: model(**inputs, params=params).logits)
    assert_close(np.asarray(compiled(model.params, inputs)), np.asarray(expected))
    fields = {name: getattr(model.module, name) for name in ("config", "dtype")}
    module = nn.remat(type(model.module))(**fields)

    def loss(apply: Any, params: Any) -> Any:
        return (apply({"params": params}, **inputs).logits ** 2).mean()

    plain = jax.grad(lambda params: loss(model.module.apply, params))(model.params)
    again = jax.grad(lambda params: loss(module.apply, params))(model.params)
    jax.tree.map(lambda a, b: assert_close(np.asarray(b), np.asarray(a)), plain, again)
