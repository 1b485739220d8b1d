"""Rows of the contract that no other module here has: what the base class of PyTorch had besides, what there is not."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import keras
import numpy as np
import pytest
import torch
from flax import linen
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional

import rows_live
from rows_live import Headed, Trunk, assert_equal_states, load, saved, trained
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    FlaxPreTrainedModel,
    GenerationConfig,
    GPT2Config,
    LlamaConfig,
    LlamaForCausalLM,
    MissingMethodError,
    MissingNameError,
    PretrainedConfig,
    PreTrainedModel,
    RemoteCodeError,
    T5Config,
    TFPreTrainedModel,
    TriptychError,
    UnsupportedFormatError,
    open_checkpoint,
)
from triptych.generation import CompileConfig
from triptych.modeling.operations import _warn_of_drawn_rows
from triptych_conformance import Backend
from walk import row, state

IN_ALL = {"pt": "Y", "tf": "Y", "flax": "Y"}
IDS = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
LATER = "a later release generates"
NO_GENERATE = f"False of built-in classes, whose `generate` is refused: {LATER}; True of a class that has its own"


@contextmanager
def messages(level: int = logging.WARNING) -> Iterator[list[str]]:
    """Collect what triptych logs at `level` or above."""
    found: list[str] = []
    handler = logging.Handler(level)
    handler.emit = lambda record: found.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("triptych")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(min(level, logger.getEffectiveLevel()))
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def refuses(*methods: str, match: str = "") -> Any:
    """Return a probe that a model of a class of another's refuses these methods."""

    def probe(backend: Backend, folder: Path) -> None:
        cls = backend.cls("PreTrainedModel")
        for name in methods:
            with pytest.raises(MissingMethodError, match=f"has no {name}.*{match}"):
                getattr(cls, name)()

    return probe


# -- attributes of classes -------------------------------------------------------------------------------------------


class OtherConfig(rows_live.Config):
    model_type = "other_live"


@row("5.4.2", pt="Y", note="an attribute of the class itself goes first")
def the_config_class_is_annotated(backend: Backend, folder: Path) -> None:
    class Annotated(Trunk):
        config: OtherConfig

    class Both(Annotated):
        config: OtherConfig
        config_class = rows_live.Config

    class Inherits(Annotated):
        config: Any

    assert (Annotated.config_class, Inherits.config_class) == (OtherConfig, OtherConfig)
    assert Both.config_class is rows_live.Config


@row("5.4.6", pt="Y", note="of the older way over several devices, which v4 no longer had; kept for code that reads it")
@row("5.4.9", pt="Y", note="kept; only a device_map has a use for it, which is refused by name")
@row("5.4.10", pt="Y", note="kept; only a device_map has a use for it, which is refused by name")
@row("5.4.26", pt="Y", note="kept for the class's own code; built-in classes declare what they record")
@row("5.4.68", pt="Y")
@row("5.4.27", pt="Y", note="kept and readable; a load refuses tp_plan= by name")
def attributes_that_authors_set(backend: Backend, folder: Path) -> None:
    assert not PreTrainedModel.is_parallelizable and PreTrainedModel._no_split_modules is None
    assert Trunk(rows_live.Config()).can_record_outputs == {}

    class Setting(Trunk):
        is_parallelizable = True
        _no_split_modules = ["Conv1d"]
        _skip_keys_device_placement = "past_key_values"
        _can_record_outputs: ClassVar[Any] = {"hidden_states": nn.Conv1d}
        _tp_plan: ClassVar[Any] = {"conv": "colwise"}

    model = trained(Setting)
    assert_equal_states(model, (saved(model, folder), Setting.from_pretrained(folder, strict=True))[1])
    assert model.can_record_outputs == {"hidden_states": nn.Conv1d} and model.is_parallelizable


@row("5.4.8", pt="R", note="kept and never called: a checkpoint of TensorFlow 1 is refused by name")
def a_reader_of_tensorflow_1(backend: Backend, folder: Path) -> None:
    class Reading(Trunk):
        @staticmethod
        def load_tf_weights(model: Any, config: Any, path: str) -> Any:
            raise AssertionError

    rows_live.Config().save_pretrained(folder)
    (folder / "model.ckpt.index").write_bytes(b"x")
    for options in ({}, {"from_tf": True}):
        with pytest.raises(TriptychError, match="TensorFlow 1"):
            Reading.from_pretrained(folder, **options)


@row("5.4.13", pt="Y")
def ignored_missing_names_are_not_reported(backend: Backend, folder: Path) -> None:
    class Ignoring(Trunk):
        _keys_to_ignore_on_load_missing = ["raw"]

    weights = {name: ref.read() for name, ref in saved(trained(), folder).items() if name != "raw"}
    with messages() as said:
        model, info = load(weights, Ignoring)
    assert (info["missing_keys"], said, model.raw.tolist()) == ([], [], [0, 1, 2, 3])


@row("5.4.40", pt="Y", note="NotImplementedError unless a class overrides it")
@row("5.4.41", pt="Y", note="NotImplementedError unless a class overrides it")
def embeddings_of_positions(backend: Backend, folder: Path) -> None:
    model = Trunk(rows_live.Config())
    for act in (model.get_position_embeddings, lambda: model.resize_position_embeddings(3)):
        with pytest.raises(NotImplementedError, match="Trunk does not define"):
            act()


# -- the constructor, and what is read on a model ------------------------------------------------------------------


@row("5.4.47", pt="Y")
@row("5.4.48", pt="Y")
@row("5.4.49", pt="Y")
def what_the_constructor_sets(backend: Backend, folder: Path) -> None:
    class LiveForTokenClassification(Trunk):
        pass

    model = LiveForTokenClassification(rows_live.Config())
    assert (model.loss_type, Trunk(model.config).loss_type) == ("ForTokenClassification", None)
    assert (model.warnings_issued, model.name_or_path) == ({}, "")
    model.save_pretrained(folder)
    assert LiveForTokenClassification.from_pretrained(folder).name_or_path == str(folder)


@row("5.4.66", pt="Y", note="losses of detection and segmentation are refused by name")
def losses_by_the_name_of_the_class(backend: Backend, folder: Path) -> None:
    from triptych.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

    model = LlamaForCausalLM(LlamaConfig(**SMALL["llama"])).eval()
    labels = IDS.clone()
    labels[0, 3] = -100
    output = model(IDS, labels=labels)
    ours = model.loss_function(logits=output.logits, labels=labels, vocab_size=model.config.vocab_size)
    torch.testing.assert_close(ours, output.loss)
    half = model.loss_function(output.logits, labels, model.config.vocab_size, num_items_in_batch=14)
    torch.testing.assert_close(half, ours * 7 / 14)
    for kind, shape, wanted in (
        ("TokenClassification", (2, 5, 4), IDS % 4),
        ("SequenceClassification", (2, 4), IDS[:, 0] % 4),
    ):
        logits, config = torch.randn(shape), PretrainedConfig(num_labels=4)
        loss = LOSS_MAPPING[f"For{kind}"](**{("logits" if len(shape) == 3 else "pooled_logits"): logits},
                                          labels=wanted, config=config)  # fmt: skip
        torch.testing.assert_close(loss, functional.cross_entropy(logits.reshape(-1, 4), wanted.reshape(-1)))
    assert config.problem_type == "single_label_classification"
    start, end = torch.randn(2, 5), torch.randn(2, 5)
    loss = LOSS_MAPPING["ForQuestionAnswering"](start, end, torch.tensor([1, 9]), torch.tensor([[2], [9]]))
    wanted_loss = functional.cross_entropy(start[:1], torch.tensor([1])) + functional.cross_entropy(
        end[:1], torch.tensor([2])
    )
    torch.testing.assert_close(loss, wanted_loss / 2)
    with pytest.raises(MissingMethodError, match="images"):
        LOSS_MAPPING["ForObjectDetection"]()
    with messages() as said:
        assert Trunk(rows_live.Config()).loss_function is ForCausalLMLoss
    assert "loss_type None" in said[0]
    model.loss_function = functional.mse_loss
    assert model.loss_function is functional.mse_loss
    other = Trunk(rows_live.Config())
    other.loss_function = nn.MSELoss()
    assert isinstance(other.loss_function, nn.MSELoss)


class Planned(PreTrainedModel):
    config_class = rows_live.Config
    base_model_prefix = "trunk"
    _tp_plan: ClassVar[Any] = {"lm_head": "colwise_rep"}
    _pp_plan: ClassVar[Any] = {"lm_head": (["hidden_states"], ["logits"])}

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.trunk = Trunk(config)
        self.post_init()


@row("5.4.56", pt="Y", note="put together when they are read; a load refuses tp_plan= by name")
@row("5.4.61", pt="Y")
@row("5.4.62", pt="Y")
@row("5.4.63", pt="Y", note="None: no model is split")
@row("5.4.64", pt="Y")
@row("5.4.65", pt="Y")
def plans_of_parallelism(backend: Backend, folder: Path) -> None:
    class PlannedConfig(rows_live.Config):
        base_model_tp_plan: ClassVar[Any] = {"conv": "rowwise"}

    model = Planned(PlannedConfig())
    assert model.tp_plan == {"trunk.conv": "rowwise", "lm_head": "colwise_rep"} and model.supports_tp_plan
    assert list(model.pp_plan) == ["lm_head"] and model.supports_pp_plan and model.tp_size is None
    model.tp_plan = {}
    assert model.tp_plan == {"trunk.conv": "rowwise"}
    plain = Trunk(rows_live.Config())
    assert not plain.supports_tp_plan and not plain.supports_pp_plan
    model.save_pretrained(folder)
    with pytest.raises(ArgumentError, match="tp_plan is not supported"):
        Planned.from_pretrained(folder, tp_plan="auto")


@row("5.4.67", pt="R", note="False; True is refused: the layers of a model are used as they are")
def kernels_of_the_hub(backend: Backend, folder: Path) -> None:
    model = Trunk(rows_live.Config())
    assert model.use_kernels is False
    model.use_kernels = False
    with pytest.raises(ArgumentError, match="kernels"):
        model.use_kernels = True


# -- methods ----------------------------------------------------------------------------------------------------


@row("5.4.70", pt="Y", note="from_config, under its older name too")
def from_config(backend: Backend, folder: Path) -> None:
    for options in ({"torch_dtype": torch.bfloat16}, {"dtype": "bfloat16"}, {"torch_dtype": "bfloat16"}):
        model = backend.cls("BertModel")._from_config(
            BertConfig(**SMALL["bert"]), attn_implementation="eager", **options
        )
        assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager"
    assert torch.get_default_dtype() == torch.float32
    with pytest.raises(ArgumentError, match="attention"):
        backend.cls("BertModel")._from_config(BertConfig(**SMALL["bert"]), attn_implementation="flash_attention_2")


@row("5.4.71", note=NO_GENERATE, pt="R")
@row("6.60", note=NO_GENERATE, tf="R")
@row("7.37", note=NO_GENERATE, flax="R")
@row("11.31", note=NO_GENERATE, pt="R", tf="R", flax="R")
def can_generate(backend: Backend, folder: Path) -> None:
    built_in = backend.cls("GPT2LMHeadModel")
    assert built_in.can_generate() is False
    with pytest.raises(MissingMethodError, match="init_cache"):
        built_in.generate(None)

    class Generating(built_in):  # type: ignore[misc, valid-type]
        def generate(self) -> int:
            return 1

    assert Generating.can_generate() and Generating._may_generate()
    assert not backend.cls("BertModel").can_generate() and not backend.cls("BertModel")._may_generate()


@row("5.4.75", pt="Y")
def modules_are_initialised_once(backend: Backend, folder: Path) -> None:
    model = rows_live.Around(rows_live.Config())
    model.fresh = nn.Linear(2, 2)
    model.initialize_weights()
    assert model.fresh.weight.eq(9).all() and not model.back.conv.weight.eq(9).any()
    model.fresh.weight.data.zero_()
    model.initialize_weights()
    assert model.fresh.weight.eq(0).all()


@row("5.4.84", pt="Y", note="the backbone of a model that is one stack")
def stacks(backend: Backend, folder: Path) -> None:
    t5 = backend.cls("T5ForConditionalGeneration")(T5Config(**SMALL["t5"]))
    assert t5.get_encoder() is t5.encoder and t5.get_decoder() is t5.decoder
    llama = LlamaForCausalLM(LlamaConfig(**SMALL["llama"]))
    assert llama.get_decoder() is llama.model and llama.model.get_decoder() is llama.model
    headed = Headed(rows_live.Config())
    assert headed.get_decoder() is headed.trunk
    other = Trunk(rows_live.Config())
    headed.set_decoder(other)
    assert headed.trunk is other
    with pytest.raises(ArgumentError, match="decoder itself"):
        other.set_decoder(other)
    decoder = t5.decoder
    t5.set_decoder(decoder)
    assert t5.decoder is decoder


@row("5.4.90", pt="Y")
def contexts_without_values(backend: Backend, folder: Path) -> None:
    from contextlib import ExitStack

    with ExitStack() as contexts:
        for context in Trunk.get_init_context(False, False):
            contexts.enter_context(context)
        model = Trunk(rows_live.Config())
    assert model.conv.weight.is_meta
    with pytest.raises(ArgumentError, match="quantised"):
        Trunk.get_init_context(True)


@row("5.4.91", pt="Y")
@row("5.4.92", pt="Y")
def modules_and_weights_by_name(backend: Backend, folder: Path) -> None:
    model = Headed(rows_live.Config())
    trunk = model.trunk
    assert model.retrieve_modules_from_names(["trunk.conv.weight", "trunk.raw", "lm_head.weight"]) == [
        model.lm_head, trunk, trunk.conv,
    ]  # fmt: skip
    assert trunk.retrieve_modules_from_names(["trunk.conv.bias"], add_prefix=True) == [trunk.conv]
    assert model.retrieve_modules_from_names(["conv.bias"], remove_prefix=True) == [trunk.conv]
    model.lists = nn.ModuleDict({"a": nn.ParameterList([nn.Parameter(torch.ones(1))])})
    assert model.retrieve_modules_from_names(["lists.a.0"]) == [model.lists, model.lists["a"]]
    assert model.get_parameter_or_buffer("trunk.seen") is trunk.seen
    assert model.get_parameter_or_buffer("trunk.conv.weight") is trunk.conv.weight
    for bad in ("trunk.nothing", "nothing.weight"):
        with pytest.raises(AttributeError):
            model.get_parameter_or_buffer(bad)


@row("5.4.94", pt="Y")
def a_compiled_call(backend: Backend, folder: Path) -> None:
    model = trained()
    plain = CompileConfig(backend="eager", mode=None)
    call = model.get_compiled_call(plain)
    assert call is model.get_compiled_call(CompileConfig(backend="eager", mode=None))
    assert call is not model.get_compiled_call(CompileConfig(backend="eager", mode=None, dynamic=True))
    assert torch.equal(call(IDS), model(IDS))


@row("5.4.97", pt="Y")
def classes_for_any_attention(backend: Backend, folder: Path) -> None:
    class Calling(Trunk):
        _supports_attention_backend = True

    assert Calling.is_backend_compatible() and not Trunk.is_backend_compatible()


row("5.4.95", note="the layers of a model are used as they are", pt="R")(refuses("kernelize"))
row("5.4.96", note="attn_implementation='sdpa' is what it became", pt="R")(
    refuses("to_bettertransformer", "reverse_bettertransformer", match="sdpa")
)
row("5.4.87", note="no quantised model is made", pt="R")(refuses("dequantize"))
ADAPTERS = ("load_adapter", "add_adapter", "set_adapter", "disable_adapters", "enable_adapters", "active_adapters",
            "get_adapter_state_dict", "delete_adapter")  # fmt: skip
for _place, _name in enumerate(ADAPTERS, 99):
    row(f"5.4.{_place}", note="adapters are not built in: refused, and peft is named", pt="R")(
        refuses(_name, match="peft")
    )
state("5.4.78", "see 5.7", pt="Y")
state("5.4.79", "see 5.8", pt="Y")
state("2.74", pt="Y")

# -- loads ------------------------------------------------------------------------------------------------------


@row("5.5.35", pt="Y")
def a_generation_config_of_the_call(backend: Backend, folder: Path) -> None:
    GPT2 = backend.cls("GPT2LMHeadModel")
    GPT2(GPT2Config(**SMALL["gpt2"])).save_pretrained(folder)
    given = GenerationConfig(max_length=33)
    model = GPT2.from_pretrained(folder, generation_config=given)
    assert model.generation_config == given and model.generation_config is not given


@row("5.5.68", pt="R", note=f"the code is not run: {LATER}, and `generate` says so")
def code_that_generates(backend: Backend, folder: Path) -> None:
    GPT2 = backend.cls("GPT2LMHeadModel")
    GPT2(GPT2Config(**SMALL["gpt2"])).save_pretrained(folder)
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate/generate.py").write_text("raise SystemExit('run')")
    model = GPT2.from_pretrained(folder)
    for act in (model.generate, model.load_custom_generate):
        with pytest.raises(MissingMethodError, match="does not generate yet"):
            act(IDS, custom_generate=str(folder))


@row("5.5.74", pt="R", note="refused by name, and its arrays too; a later release loads them")
@row("7.70", flax="R", note="refused by name, and its arrays too")
@row("5.6.28", pt="R", note="a config that says so is refused: the weights would not be what it says")
def a_quantised_checkpoint(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(BertConfig(**SMALL["bert"]))
    model.save_pretrained(folder)
    values = json.loads((folder / "config.json").read_text())
    values["quantization_config"] = {"quant_method": "gptq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(values))
    with pytest.raises(UnsupportedFormatError, match="quantised with gptq"):
        backend.load("BertModel", folder)
    weights = backend.weights(model)
    name = "encoder.layer.0.output.dense.weight"
    held = {**weights, name: weights[name].astype(np.int8), f"{name}.absmax": np.ones(2, np.float32)}
    with pytest.raises(UnsupportedFormatError, match="quantised"):
        backend.cls("BertModel").from_pretrained(None, config=model.config, state_dict=held)
    model.config.quantization_config = values["quantization_config"]
    with pytest.raises(UnsupportedFormatError, match="quantised with gptq"):
        model.save_pretrained(folder / "other")
    assert not (folder / "other").exists()


@row("5.5.76", pt="Y", note="param_dtype='auto' keeps what the files have, whatever the config says")
def dtype_auto(backend: Backend, folder: Path) -> None:
    trained().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for said, wanted in (("float16", torch.float16), (None, torch.float32)):
        (folder / "config.json").write_text(json.dumps({**config, "dtype": said}))
        for name in ("dtype", "torch_dtype"):
            model = Trunk.from_pretrained(folder, **{name: "auto"})
            assert (model.dtype, model.seen.dtype) == (wanted, torch.int64)
        assert Trunk.from_pretrained(folder, param_dtype="auto").dtype == torch.float32


@row("5.5.81", pt="Y", note="to the weights of the models within; the configs in memory say what the file said")
def the_dtype_is_that_of_models_within(backend: Backend, folder: Path) -> None:
    trained(Headed).save_pretrained(folder)
    model = Headed.from_pretrained(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16} and model.trunk.dtype == torch.bfloat16


@row("5.5.94", pt="Y", note="no error: weights of the backbone with and without its prefix are both taken")
def names_of_a_backbone_beside_those_of_a_head(backend: Backend, folder: Path) -> None:
    model = trained(Headed, tie_word_embeddings=False)
    weights = {name.removeprefix("trunk."): ref.read() for name, ref in saved(model, folder).items()}
    again, info = Headed.from_pretrained(None, config=model.config, state_dict=weights, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert_equal_states(model, again)


# -- the vocabulary ---------------------------------------------------------------------------------------------


class WithBias(Headed):
    """A head with a bias of its own, tied."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.lm_head.bias = nn.Parameter(torch.ones(config.vocab_size))


@row("5.7.4", pt="Y", note="at INFO")
def tensor_cores(backend: Backend, folder: Path) -> None:
    model = Headed(rows_live.Config())
    with messages(logging.INFO) as said:
        model.resize_token_embeddings(9)
    assert [text for text in said if "tensor cores" in text]
    with messages(logging.INFO) as said:
        model.resize_token_embeddings(9, pad_to_multiple_of=8)
    assert model.config.vocab_size == 16 and not [text for text in said if "tensor cores" in text]


@row("5.7.9", pt="Y", note="the layers are the same objects, with all that hangs on them")
def hooks_of_layers_are_kept(backend: Backend, folder: Path) -> None:
    model, seen = Headed(rows_live.Config(tie_word_embeddings=False)), []
    for layer in (model.trunk.embed, model.lm_head):
        layer._hf_hook = "a hook of accelerate"
        layer.register_forward_hook(lambda *_: seen.append(1))
    model.resize_token_embeddings(9)
    model(IDS)
    assert model.trunk.embed._hf_hook == model.lm_head._hf_hook == "a hook of accelerate" and seen == [1, 1]


@row("5.7.11", pt="Y", note="ArgumentError, a ValueError; any layer with a matrix [vocabulary, width] is resized")
@row("5.7.15", pt="Y", note="ArgumentError, a ValueError; any layer with a matrix [vocabulary, width] is resized")
def other_layers_are_not_resized(backend: Backend, folder: Path) -> None:
    class Odd(Headed):
        def get_input_embeddings(self) -> Any:
            return self.trunk.conv

    class OddHead(Headed):
        def get_output_embeddings(self) -> Any:
            return self.trunk.conv

    for cls in (Odd, OddHead):
        model = cls(rows_live.Config(tie_word_embeddings=False))
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        with pytest.raises(ArgumentError, match="cannot be resized.*Conv1d"):
            model.resize_token_embeddings(9)
        after = model.state_dict()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items()) and model.config.vocab_size == 7


@row("5.7.12", pt="Y", note="warned of once; drawn by `seed=`, not by the framework's own, so that all three agree")
def new_rows_around_the_mean(backend: Backend, folder: Path) -> None:
    first, other = trained(Headed), trained(Headed)
    first.trunk.embed.weight.data.normal_(generator=torch.Generator().manual_seed(0))
    other.load_state_dict(first.state_dict())
    mean = first.trunk.embed.weight.mean(0)
    _warn_of_drawn_rows.cache_clear()
    with messages() as said:
        new = first.resize_token_embeddings(9).weight[7:]
        other.resize_token_embeddings(9, seed=1)
    assert len(said) == 1 and "mean_resizing=False" in said[0]
    torch.testing.assert_close(new, mean.expand(2, -1), atol=1e-3, rtol=0)
    assert not torch.equal(new, other.trunk.embed.weight[7:])


@row("5.7.13", pt="Y")
def new_rows_of_an_authors_own(backend: Backend, folder: Path) -> None:
    class Headful(Headed):
        def _init_weights(self, module: nn.Module) -> None:
            if isinstance(module, nn.Linear):
                module.weight.data.fill_(4.0)

    model = Headful(rows_live.Config(tie_word_embeddings=False))
    old = torch.randn(7, 4)
    model.trunk.embed.weight.data.copy_(old)
    model.lm_head.weight.data.copy_(old)
    model.resize_token_embeddings(9, mean_resizing=False)
    for layer, value in ((model.trunk.embed, 0.25), (model.lm_head, 4.0)):
        assert torch.equal(layer.weight[:7], old) and layer.weight[7:].eq(value).all()


class CompositeConfig(PretrainedConfig):
    model_type = "rest_composite"
    sub_configs: ClassVar[Any] = {"text_config": rows_live.Config}

    def __init__(self, text_config: Any = None, **kwargs: Any) -> None:
        made = rows_live.Config(**text_config) if isinstance(text_config, dict) else text_config
        self.text_config = made or rows_live.Config()
        super().__init__(**kwargs)


class Composite(PreTrainedModel):
    config_class = CompositeConfig

    def __init__(self, config: CompositeConfig) -> None:
        super().__init__(config)
        self.text = Trunk(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.text.embed


@row("5.7.17", pt="Y")
def the_vocabulary_is_of_the_text(backend: Backend, folder: Path) -> None:
    model = Composite(CompositeConfig())
    model.resize_token_embeddings(9)
    assert (model.text.embed.num_embeddings, model.config.text_config.vocab_size) == (9, 9)
    assert model.text.config.vocab_size == 9
    model.save_pretrained(folder)
    assert_equal_states(model, Composite.from_pretrained(folder, strict=True))


@row("5.7.19", pt="Y")
def a_tied_head_stays_tied(backend: Backend, folder: Path) -> None:
    model = WithBias(rows_live.Config())
    model.resize_token_embeddings(9)
    assert model.lm_head.weight is model.trunk.embed.weight and model.lm_head.out_features == 9
    assert model.lm_head.bias.tolist() == [1] * 7 + [0] * 2
    model.save_pretrained(folder)
    again = WithBias.from_pretrained(folder, strict=True)
    assert again.lm_head.weight is again.trunk.embed.weight
    assert_equal_states(model, again)
    assert "lm_head.weight" not in open_checkpoint(folder)


# -- generation, which a later release has ------------------------------------------------------------------------

GENERATION = {
    "5.10.1": ("pt", "generate"), "5.10.2": ("pt", "prepare_inputs_for_generation"),
    "5.10.3": ("pt", "compute_transition_scores"), "5.10.4": ("pt", "heal_tokens"),
    "5.10.5": ("pt", "load_custom_generate"), "5.10.6": ("pt", "init_continuous_batching"),
    "5.10.7": ("pt", "generate_batch"), "6.114": ("tf", "generate"), "6.115": ("tf", "prepare_inputs_for_generation"),
    "6.116": ("tf", "compute_transition_scores"),
    "6.117": ("tf", "greedy_search sample beam_search contrastive_search"), "6.118": ("tf", "seed_generator"),
    "7.72": ("flax", "generate"), "7.73": ("flax", "prepare_inputs_for_generation"),
    "7.74": ("flax", "update_inputs_for_generation"),
    **{f"5.10.{number}": ("pt", "generate") for number in range(8, 23)},
    **{number: ("tf", "generate") for number in ("6.119", "6.120", "6.121")},
    **{number: ("flax", "generate") for number in ("7.75", "7.76", "7.77")},
}  # fmt: skip
"""Row -> the framework, and the methods that are refused: of a hook or a mode, `generate`, which alone calls it."""

for _number, (_framework, _names) in GENERATION.items():
    row(_number, note=f"{LATER}; a call is refused, with what to do", **{_framework: "R"})(
        refuses(*_names.split(), match="init_cache")
    )


@row("11.32", note=f"{LATER}; the import is refused", pt="R", tf="R", flax="R")
@row("11.33", note=f"{LATER}; a call is refused", pt="R", tf="R", flax="R")
@row("9.56", note=f"{LATER}; a call is refused", pt="R")
def generation_is_refused(backend: Backend, folder: Path) -> None:
    prefix = backend.cls("BertModel").class_prefix
    for place in ("triptych", "triptych.generation"):
        with pytest.raises(MissingNameError, match="does not generate yet"):
            exec(f"from {place} import {prefix}GenerationMixin")
    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**SMALL["gpt2"]))
    with pytest.raises(MissingMethodError, match="does not generate yet"):
        model.generate(np.ones((1, 2), np.int32), max_new_tokens=2)


@row("6.122", note="a cache of a fixed size is made first, by init_cache; without it, and for tuples, an error", tf="R")
def caches_in_keras(backend: Backend, folder: Path) -> None:
    model = backend.cls("GPT2LMHeadModel")(GPT2Config(**SMALL["gpt2"]))
    ids = IDS.numpy()
    with pytest.raises(ArgumentError, match="init_cache"):
        model(ids, use_cache=True)
    with pytest.raises(ArgumentError, match="init_cache"):
        model(ids, past_key_values=[(np.zeros((2, 3, 1, 4), np.float32),) * 2] * 2)
    first = model(ids[:, :3], past_key_values=model.init_cache(2, 5), use_cache=True)
    then = model(ids[:, 3:], past_key_values=first.past_key_values).logits
    np.testing.assert_allclose(then, np.asarray(model(ids).logits)[:, 3:], atol=1e-5)


# -- between the frameworks ---------------------------------------------------------------------------------------


def renamed(folder: Path, names: dict[str, str]) -> None:
    """Give weights of the safetensors file in `folder` other names."""
    file = folder / "model.safetensors"
    arrays = load_file(file)
    assert names.keys() <= arrays.keys()
    save_file({names.get(name, name): array for name, array in arrays.items()}, file, {"format": "pt"})


class SmallConfig(PretrainedConfig):
    model_type = "rest_small"


class Normed(PreTrainedModel):
    """A norm and a matrix of a direction and a length."""

    config_class = SmallConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.norm = nn.LayerNorm(3)
        self.line = nn.utils.parametrizations.weight_norm(nn.Linear(3, 3))
        self.post_init()

    def forward(self, input_ids: Any) -> Any:
        return {"line": self.line(self.norm(input_ids))}


class TFLine(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        self.weight_g = self.add_weight(name="weight_g", shape=(3, 1))
        self.weight_v = self.add_weight(name="weight_v", shape=(3, 3))
        self.bias = self.add_weight(name="bias", shape=(3,))

    def call(self, inputs: Any) -> Any:
        lengths = keras.ops.norm(self.weight_v, axis=1, keepdims=True)
        return inputs @ keras.ops.transpose(self.weight_g * self.weight_v / lengths) + self.bias


class TFNormed(TFPreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.norm = keras.layers.LayerNormalization(epsilon=1e-5, name="norm")
        self.line = TFLine(name="line")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_ids": np.zeros((1, 3), np.float32)}

    def call(self, input_ids: Any, training: bool | None = None) -> Any:
        return {"line": self.line(self.norm(input_ids))}


class FlaxLine(linen.Module):
    @linen.compact
    def __call__(self, inputs: Any) -> Any:
        length = self.param("weight_g", linen.initializers.ones, (3, 1))
        direction = self.param("weight_v", linen.initializers.normal(1.0), (3, 3))
        bias = self.param("bias", linen.initializers.zeros, (3,))
        return inputs @ (length * direction / jnp.linalg.norm(direction, axis=1, keepdims=True)).T + bias


class NormedModule(linen.Module):
    config: SmallConfig
    dtype: Any = jnp.float32

    @linen.compact
    def __call__(self, input_ids: Any) -> Any:
        return {"line": FlaxLine(name="line")(linen.LayerNorm(epsilon=1e-5, name="norm")(input_ids))}


class FlaxNormed(FlaxPreTrainedModel):
    config_class = SmallConfig
    module_class = NormedModule

    def init_weights(self, rng: Any, input_shape: Any, params: Any = None) -> Any:
        return self.module.init(rng, jnp.zeros((1, 3)))["params"]

    def __call__(self, input_ids: Any, params: Any = None) -> Any:
        return self.module.apply({"params": self.params if params is None else params}, input_ids)


NORMED = {"pt": Normed, "tf": TFNormed, "flax": FlaxNormed}
INPUTS = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)


def outcome(model: Any) -> np.ndarray:
    inputs = torch.tensor(INPUTS) if isinstance(model, nn.Module) else INPUTS
    found = model(inputs)["line"]
    return found.detach().numpy() if isinstance(found, torch.Tensor) else np.asarray(found)


@row("8.7", **IN_ALL)
@row("8.17", note="TensorFlow and Flax: of a layer of an author's that has weight_g and weight_v", **IN_ALL)
def older_names_in_every_framework(backend: Backend, folder: Path) -> None:
    torch.manual_seed(0)
    model, cls = Normed(SmallConfig()), NORMED[backend.name]
    model.line.parametrizations.weight.original0.data.mul_(3)
    model.norm.bias.data.fill_(0.5)
    model.save_pretrained(folder)
    np.testing.assert_allclose(outcome(cls.from_pretrained(folder)), outcome(model), atol=1e-6)
    parts = {"original0": "weight_g", "original1": "weight_v"}
    old = {f"line.parametrizations.weight.{new}": f"line.{older}" for new, older in parts.items()}
    old |= {"norm.weight": "norm.gamma", "norm.bias": "norm.beta"}
    renamed(folder, old)
    again = cls.from_pretrained(folder, strict=True)
    np.testing.assert_allclose(outcome(again), outcome(model), atol=1e-6)
    again.save_pretrained(folder / "again")
    np.testing.assert_allclose(outcome(Normed.from_pretrained(folder / "again")), outcome(model), atol=1e-6)


class TFSeparable(TFPreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.separable = keras.layers.SeparableConv1D(4, 3, name="separable")

    @property
    def dummy_inputs(self) -> dict[str, Any]:
        return {"input_ids": np.zeros((1, 5, 3), np.float32)}

    def call(self, input_ids: Any, training: bool | None = None) -> Any:
        return {"line": self.separable(input_ids)}


class Separable(PreTrainedModel):
    config_class = SmallConfig

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.separable = nn.Module()
        self.separable.depthwise = nn.Conv1d(3, 3, 3, groups=3, bias=False)
        self.separable.pointwise = nn.Conv1d(3, 4, 1)
        self.post_init()


@row(
    "8.14",
    note="saved and loaded as Keras has it; two convolutions of PyTorch are two layers: an error names them",
    tf="R",
)
def separable_convolutions(backend: Backend, folder: Path) -> None:
    model = TFSeparable(SmallConfig())
    model.save_pretrained(folder)
    again = TFSeparable.from_pretrained(folder, strict=True)
    inputs = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    assert np.array_equal(again(inputs)["line"], model(inputs)["line"])
    with pytest.raises(TriptychError, match="separable.depthwise.weight"):
        Separable.from_pretrained(folder)


state("8.16", "of Transformer-XL, which transformers 4 had given up; an author's arrays have the same axes everywhere",
      pt="R", tf="R", flax="R")  # fmt: skip


@row("6.89", note="written in every framework: what the file holds, for whoever reads it", tf="Y")
@row("11.13", note="written in every framework: what the file holds, for whoever reads it", **IN_ALL)
def the_dtype_of_the_file_is_written(backend: Backend, folder: Path) -> None:
    backend.cls("BertModel")(BertConfig(**SMALL["bert"])).save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float32"


CODE = """
from {package} import BertConfig, {prefix}BertModel


class MineConfig(BertConfig):
    model_type = "rest_mine"


class {prefix}Mine({prefix}BertModel):
    config_class = MineConfig
"""


@row("9.5", note="code over triptych; code that imports transformers with in_place_of_transformers=True", **IN_ALL)
def trusted_code(backend: Backend, folder: Path) -> None:
    auto, built_in = backend.cls("AutoModel"), backend.cls("BertModel")
    model, prefix = built_in(BertConfig(**SMALL["bert"])), built_in.class_prefix
    model.save_pretrained(folder)
    where = {"AutoConfig": "mine.MineConfig", f"{prefix}AutoModel": f"mine.{prefix}Mine"}
    values = json.loads((folder / "config.json").read_text()) | {"model_type": "rest_mine", "auto_map": where}
    (folder / "config.json").write_text(json.dumps(values))
    for package, options in (("triptych", {}), ("transformers", {"in_place_of_transformers": True})):
        (folder / "mine.py").write_text(CODE.format(package=package, prefix=prefix))
        with pytest.raises(RemoteCodeError, match="trust_remote_code"):
            auto.from_pretrained(folder)
        loaded = auto.from_pretrained(folder, trust_remote_code=True, **options)
        assert type(loaded).__name__ == f"{prefix}Mine" and isinstance(loaded, built_in)
        found, wanted = backend.weights(loaded), backend.weights(model)
        assert all(np.array_equal(found[name], array) for name, array in wanted.items())


# -- what the sections above sum up to ------------------------------------------------------------------------------


@row("11.1", pt="Y")
@row("11.2", pt="Y")
@row("11.5", pt="Y", tf="Y")
@row("11.8", pt="Y", note="trainable, exclude_embeddings: in all three")
def surgery_and_counts(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(BertConfig(**SMALL["bert"]))
    whole, without = model.num_parameters(), model.num_parameters(exclude_embeddings=True)
    assert whole - without == (31 + 16 + 2) * 12
    model.resize_token_embeddings(29, pad_to_multiple_of=8, mean_resizing=False)
    assert model.config.vocab_size == 32 and model.num_parameters() == whole + 12
    assert np.shape(backend.weights(model)["embeddings.word_embeddings.weight"]) == (32, 12)
    assert model.get_input_embeddings() is not None and model.get_output_embeddings() is None
    model.prune_heads({0: [1]})
    assert np.shape(backend.weights(model)["encoder.layer.0.attention.self.query.weight"]) == (8, 12)


@row("11.4", note="a dict or a list of names in PyTorch; an array that the module shares, in all three", **IN_ALL)
def ties(backend: Backend, folder: Path) -> None:
    cls = backend.cls("GPT2LMHeadModel")
    model = cls(GPT2Config(**SMALL["gpt2"]))
    model.save_pretrained(folder)
    assert "lm_head.weight" not in open_checkpoint(folder)
    model = cls.from_pretrained(folder, strict=True)
    model.resize_token_embeddings(33)
    assert model(IDS.numpy() if backend.name != "pt" else IDS).logits.shape[-1] == 33
    untied = cls(GPT2Config(**SMALL["gpt2"], tie_word_embeddings=False))
    untied.save_pretrained(folder)
    assert "lm_head.weight" in open_checkpoint(folder)


@row("11.17", note="attn_implementation works; each of the others is refused by name, with what to do", pt="R")
def what_only_pytorch_had(backend: Backend, folder: Path) -> None:
    cls = backend.cls("BertModel")
    cls(BertConfig(**SMALL["bert"])).save_pretrained(folder)
    assert cls.from_pretrained(folder, attn_implementation="eager").config._attn_implementation == "eager"
    for name, value in (("device_map", "auto"), ("load_in_8bit", True), ("tp_plan", "auto"), ("gguf_file", "x.gguf")):
        with pytest.raises(ArgumentError, match=f"{name} is not supported"):
            cls.from_pretrained(folder, **{name: value})


@row("11.40", pt="Y")
@row("11.41", pt="Y")
def what_is_read_on_a_model(backend: Backend, folder: Path) -> None:
    model = backend.cls("BertModel")(BertConfig(**SMALL["bert"]))
    assert model(**model.dummy_inputs).last_hidden_state.shape == (3, 5, 12)
    model.set_attn_implementation("eager")
    assert model.config._attn_implementation == "eager" and callable(model.loss_function)
    assert model.get_decoder() is model


@row("11.50", pt="Y", note="strict is of what the model needs")
def shards_of_a_tied_model(backend: Backend, folder: Path) -> None:
    from triptych.modeling_utils import load_sharded_checkpoint

    cls = backend.cls("GPT2LMHeadModel")
    model, other = (cls(GPT2Config(**SMALL["gpt2"])) for _ in range(2))
    model.save_pretrained(folder, max_shard_size="5KB")
    load_sharded_checkpoint(other, folder, strict=True)
    assert_equal_states(model, other)
