"""Parts of the built-in encoders that authors' models hold: under the names, and called as, in transformers 4."""

from __future__ import annotations

import copy
import importlib
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calls import run_raw
from small_models import SMALL, config_of, inputs_of, random_folder, random_inputs
from triptych import ArgumentError, PretrainedConfig
from triptych.names import BACKENDS as PACKAGES
from triptych_conformance import Backend, assert_close, compare

OF_LAYERS = ("SelfAttention", "SelfOutput", "Attention", "Intermediate", "Output", "Layer", "Encoder")
NAMES = {
    "bert": [f"Bert{name}" for name in (
        "Embeddings", *OF_LAYERS, "Pooler", "PredictionHeadTransform", "LMPredictionHead", "OnlyMLMHead",
        "OnlyNSPHead", "PreTrainingHeads")],
    "roberta": [f"Roberta{name}" for name in ("Embeddings", *OF_LAYERS, "Pooler", "LMHead", "ClassificationHead")],
    "electra": [f"Electra{name}" for name in (
        "Embeddings", *OF_LAYERS, "DiscriminatorPredictions", "GeneratorPredictions", "ClassificationHead")],
    "distilbert": ["Embeddings", "MultiHeadSelfAttention", "FFN", "TransformerBlock", "Transformer"],
}  # fmt: skip
MODULES = {"bert": "FlaxBertModule", "roberta": "FlaxRobertaModule", "electra": "FlaxElectraModule",
           "distilbert": "FlaxDistilBertModule"}  # fmt: skip


def home(framework: str, family: str) -> Any:
    return importlib.import_module(f"{PACKAGES[framework][0]}.{family}")


@pytest.mark.parametrize("family", NAMES)
def test_parts_are_found_by_their_names(backend: Backend, family: str) -> None:
    prefix, module = PACKAGES[backend.name][1], home(backend.name, family)
    for name in NAMES[family]:
        part = getattr(module, prefix + name)
        # Its own bytes, made here: that pickle finds a class under its name is what is tested.
        assert pickle.loads(pickle.dumps(part)) is part
    if backend.name == "flax":
        assert getattr(module, MODULES[family])


class Foreign(PretrainedConfig):
    """The config of an author's model, which has the usual fields and none of our own properties."""

    model_type = "foreign"

    def __init__(self, **kwargs: Any) -> None:
        values = {"attention_probs_dropout_prob": 0.1, "hidden_dropout_prob": 0.1, "initializer_range": 0.02,
                  "type_vocab_size": 2, "pad_token_id": 0}  # fmt: skip
        super().__init__(**{**values, **SMALL["bert"], **kwargs})


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
@pytest.mark.parametrize("masked", [False, True])
def test_parts_put_together_are_the_model(family: str, masked: bool) -> None:
    import torch

    module, stem = home("pt", family), {"bert": "Bert", "roberta": "Roberta", "electra": "Electra"}[family]
    config = config_of(family, **({"embedding_size": 12} if family == "electra" else {}))
    model = getattr(module, f"{stem}Model")(config).eval()
    embeddings, encoder = (getattr(module, stem + name)(config).eval() for name in ("Embeddings", "Encoder"))
    embeddings.load_state_dict(model.embeddings.state_dict())
    encoder.load_state_dict(model.encoder.state_dict())
    inputs = {name: torch.tensor(array) for name, array in random_inputs(config).items()}
    lowest = torch.finfo(torch.float32).min
    mask = (1.0 - inputs["attention_mask"][:, None, None, :].float()) * lowest
    heads = torch.tensor([[1.0, 0, 1], [0, 1, 1]]) if masked else None
    flags = {"output_attentions": True, "output_hidden_states": True}
    expected = model(**inputs, head_mask=heads, **flags)
    hidden = embeddings(input_ids=inputs["input_ids"], token_type_ids=None, position_ids=None, inputs_embeds=None,
                        past_key_values_length=0)  # fmt: skip
    each = [None, None] if heads is None else heads[:, None, :, None, None]
    found = encoder(hidden_states=hidden, attention_mask=mask, head_mask=each, **flags, return_dict=True)
    assert list(found) == ["last_hidden_state", "hidden_states", "attentions"]
    for name, value in found.items():
        pairs = zip(value, expected[name], strict=True) if isinstance(value, tuple) else [(value, expected[name])]
        assert all(torch.equal(one, other) for one, other in pairs), name
    fused = encoder(hidden, mask, each, return_dict=False)[0]
    assert_close(fused.detach(), expected.last_hidden_state.detach())
    for layer, number in zip(encoder.layer, range(2), strict=True):
        returned = layer(hidden, attention_mask=mask, head_mask=each[number], output_attentions=True)
        assert len(returned) == 2
        assert_close(returned[1].detach(), expected.attentions[number].detach())
        hidden = layer(hidden, mask, each[number])[0]
        assert_close(hidden.detach(), expected.hidden_states[number + 1].detach())


def test_parts_of_distilbert_put_together_are_the_model() -> None:
    import torch

    module, config = home("pt", "distilbert"), config_of("distilbert")
    model = module.DistilBertModel(config).eval()
    embeddings, transformer = module.Embeddings(config).eval(), module.Transformer(config).eval()
    embeddings.load_state_dict(model.embeddings.state_dict())
    transformer.load_state_dict(model.transformer.state_dict())
    inputs = {name: torch.tensor(array) for name, array in random_inputs(config).items()}
    expected = model(**inputs, output_attentions=True)
    hidden, mask = embeddings(inputs["input_ids"]), inputs["attention_mask"]
    found = transformer(x=hidden, attn_mask=mask, head_mask=[None, None], output_attentions=True, return_dict=True)
    assert torch.equal(found.last_hidden_state, expected.last_hidden_state)
    first = transformer.layer[0](hidden, mask, output_attentions=True)
    assert torch.equal(first[0], expected.attentions[0])  # before the hidden states, in this family
    attention = transformer.layer[0].attention
    context = attention(query=hidden, key=hidden, value=hidden, mask=mask)
    assert len(context) == 1 and attention.n_heads == 3
    attention.prune_heads([2])
    assert attention.n_heads == 2 and attention.dim == attention.q_lin.out_features == 8
    assert attention(hidden, hidden, hidden, mask)[0].shape == hidden.shape


def test_parts_take_the_config_of_an_authors_model() -> None:
    import torch

    bert, config = home("pt", "bert"), Foreign()
    ours = config_of("bert")
    for name in ("BertLayer", "BertEncoder", "BertEmbeddings", "BertPooler", "BertOnlyMLMHead"):
        torch.manual_seed(1)
        one = getattr(bert, name)(config)
        torch.manual_seed(1)
        other = getattr(bert, name)(ours)
        assert {n: p.shape for n, p in one.named_parameters()} == {n: p.shape for n, p in other.named_parameters()}
    hidden = torch.randn(2, 5, 12)
    encoder = bert.BertEncoder(config).eval()
    encoder.layer = encoder.layer[:1]  # as those do who need fewer layers
    assert torch.equal(encoder(hidden)[0], encoder.layer[0](hidden)[0])
    with pytest.raises(ArgumentError, match="(?s)activation is unknown.*nonsense"):
        bert.BertIntermediate(Foreign(hidden_act="nonsense"))(hidden)
    relu = bert.BertIntermediate(Foreign(hidden_act=torch.relu))
    assert torch.equal(relu(hidden), torch.relu(relu.dense(hidden)))
    head = bert.BertOnlyMLMHead(config)
    assert head.predictions.decoder.bias is head.predictions.bias
    assert head(hidden).shape == (2, 5, 31)


def test_positions_are_a_buffer_of_no_file() -> None:
    import torch

    embeddings = home("pt", "bert").BertEmbeddings(config_of("bert"))
    assert torch.equal(embeddings.position_ids, torch.arange(16)[None])
    assert "position_ids" in dict(embeddings.named_buffers())
    assert "position_ids" not in embeddings.state_dict()
    embeddings.register_buffer("position_ids", torch.arange(40)[None], persistent=False)  # as those do who lengthen it
    assert copy.deepcopy(embeddings).position_ids.shape == (1, 40)


@pytest.mark.parametrize("family", NAMES)
def test_a_main_layer_computes_what_the_model_does(family: str) -> None:
    stem = {"bert": "Bert", "roberta": "Roberta", "electra": "Electra", "distilbert": "DistilBert"}[family]
    config = config_of(family)
    module = home("tf", family)
    layer = getattr(module, f"TF{stem}MainLayer")(config, name="own")
    inputs = random_inputs(config)
    found = layer(inputs["input_ids"], attention_mask=inputs["attention_mask"], training=False)
    model = getattr(module, f"TF{stem}Model")(config)
    model.build()
    for one, other in zip(model.weights, layer.weights, strict=True):
        assert one.path.partition("/")[2] == other.path.partition("/")[2]
        one.assign(other)
    assert layer.name == "own"
    assert np.array_equal(found[0], model(**inputs)[0])


CROSSING = [("bert, decoder", "BertLMHeadModel"), ("roberta, decoder", "RobertaForCausalLM"),
            ("electra, decoder", "ElectraForCausalLM")]  # fmt: skip


@pytest.mark.parametrize(("variant", "stem"), CROSSING)
def test_an_encoders_states_are_projected_once(backend: Backend, variant: str, stem: str, tmp_path: Path) -> None:
    config = config_of(variant)
    model = backend.load(stem, random_folder(tmp_path, config, stem))
    inputs = inputs_of(stem, config)
    whole = backend.run(model, inputs)["logits"]
    cache, found = model.init_cache(2, 16), []
    states = inputs["encoder_hidden_states"]
    for start, end in ((0, 4), (4, 5), (5, 11)):
        part = {**inputs, "input_ids": inputs["input_ids"][:, start:end], "encoder_hidden_states": states}
        part["attention_mask"] = inputs["attention_mask"][:, :end]
        output = run_raw(backend, model, part, cache)
        cache = output.past_key_values
        found.append(np.asarray(output.logits.detach() if backend.name == "pt" else output.logits))
        states = np.zeros_like(states)  # later calls take what the first one kept
    assert_close(np.concatenate(found, 1), whole, inputs["attention_mask"])


def test_a_cache_reads_as_the_tuples_of_transformers_4(tmp_path: Path) -> None:
    import torch

    config = config_of("bert, decoder")
    model = home("pt", "bert").BertLMHeadModel(config).eval()
    inputs = {name: torch.tensor(array) for name, array in inputs_of("BertLMHeadModel", config).items()}
    memory = {name: value for name, value in inputs.items() if name.startswith("encoder")}
    ids = inputs["input_ids"]
    first = model(ids[:, :5], **memory, use_cache=True)
    past = first.past_key_values
    assert len(past) == 2 and [len(layer) for layer in past] == [4, 4]
    assert past[0][0].shape == (2, 3, 5, 4) and past[-1][2].shape == (2, 3, 5, 4)
    whole = model(ids, **memory).logits
    for given in (past, tuple(past), [tuple(layer) for layer in past]):
        assert_close(model(ids[:, 5:], **memory, past_key_values=given).logits.detach(), whole[:, 5:].detach())
    turned = tuple(tuple(array.flip(0) for array in layer) for layer in past)
    other = model(ids[:, 5:], **memory, past_key_values=turned).logits
    assert compare(other.detach(), whole[:, 5:].detach()).fraction > 1


def test_keras_fits_both_tasks_that_bert_was_trained_with() -> None:
    config = config_of("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = home("tf", "bert").TFBertForPreTraining(config)
    inputs = random_inputs(config)
    labels = {"labels": inputs["input_ids"][:, ::-1].copy(), "next_sentence_label": np.array([0, 1])}
    model.compile("sgd", metrics=["accuracy"], run_eagerly=True)
    output = model(**inputs, **labels)
    found = model.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert_close(found["loss"], float(output.loss))
    right = np.mean(np.argmax(output.seq_relationship_logits, -1) == labels["next_sentence_label"])
    assert found["seq_relationship_logits_accuracy"] == right
    assert model.fit(inputs, labels, verbose=0).history["loss"]


def test_layers_of_authors_start_as_those_of_transformers() -> None:
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.pytorch_utils import Conv1D

    norm = home("pt", "llama").LlamaRMSNorm(4)
    assert norm.extra_repr() == LlamaRMSNorm(4).extra_repr()
    made = []
    for kind in (importlib.import_module("triptych.pytorch_utils").Conv1D, Conv1D):
        torch.manual_seed(5)
        made.append(kind(8, 6).state_dict())
    assert made[0].keys() == made[1].keys()
    assert all(torch.equal(value, made[1][name]) for name, value in made[0].items())
