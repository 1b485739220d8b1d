"""Rows of the contract about what a class declares, overrides and sets in its constructor."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from torch.nn import functional

import live_models
from live_models import IDS, Headed, Trunk, assert_equal_states, load, saved, trained
from probing import STEM, messages, shows, small
from small_models import SMALL
from triptych import (
    ArgumentError,
    BertConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MissingMethodError,
    PretrainedConfig,
    PreTrainedModel,
    TriptychError,
    open_checkpoint,
)
from triptych_conformance import Backend, assert_close
from walk import row

# -- what every class has, and what authors override


@shows("5.4.3 5.4.4 5.4.5 5.4.28 5.4.57 5.4.58 6.29 6.30 6.31 6.32 6.47 7.6 7.7 7.8 7.9 7.22 11.39")
@shows("5.4.72 5.4.73 6.78 7.39 11.37 11.42 5.4.24 5.4.25")
def attributes_of_classes(backend: Backend, folder: Path) -> None:
    base = backend.cls("PreTrainedModel")
    assert (base.config_class, base.base_model_prefix, base.main_input_name) == (None, "", "input_ids")
    assert (base.framework, base.model_tags, base._auto_class) == (backend.name, None, None)
    model = small(backend)
    assert model.base_model_prefix == "bert" and model.config_class is BertConfig
    if backend.name != "flax":
        assert model.base_model is model.bert and model.bert.base_model is model.bert
    model.add_model_tags("one")
    model.add_model_tags(["one", "two"])
    assert model.model_tags == ["one", "two"] and type(model).model_tags is None

    class Registered(base):  # type: ignore[misc, valid-type]
        _can_compile_fullgraph = True
        _is_stateful = True

    Registered.register_for_auto_class()
    assert Registered._auto_class == f"{base.class_prefix}AutoModel" and base._auto_class is None
    with pytest.raises(ArgumentError, match="no auto class"):
        Registered.register_for_auto_class("AutoStrange")


@shows("5.4.14 5.4.15 5.6.21 6.36")
def lists_of_names_to_ignore(backend: Backend, folder: Path) -> None:
    class Ignoring(backend.cls(STEM)):  # type: ignore[misc]
        _keys_to_ignore_on_load_unexpected = ["^extra"]
        _keys_to_ignore_on_save = ["classifier.bias"]

    model = Ignoring(BertConfig(**SMALL["bert"]))
    model.save_pretrained(folder)
    arrays = load_file(folder / "model.safetensors")
    assert "classifier.bias" not in arrays and "classifier.weight" in arrays
    save_file({**arrays, "extra.x": np.zeros(2, np.float32)}, folder / "model.safetensors", {"format": "pt"})
    _, info = Ignoring.from_pretrained(folder, output_loading_info=True)
    assert (info["unexpected_keys"], info["missing_keys"]) == ([], ["classifier.bias"])


class Dictionary(Headed):
    """As transformers 5 ties, with more that authors override."""

    _tied_weights_keys = {"lm_head.weight": "trunk.embed.weight"}

    def __init__(self, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super().__init__(config)
        self.given = inputs, kwargs
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.trunk.embed

    def set_input_embeddings(self, value: Any) -> None:
        self.trunk.embed = value

    def tie_weights(self) -> None:
        super().tie_weights()
        self.times = getattr(self, "times", 0) + 1


@shows("5.4.17 5.4.29 5.4.34 5.4.37 5.4.43 5.4.44 5.4.45 5.4.52 5.4.98 5.4.86 5.5.66 5.5.65 5.5.73 5.6.22 7.67")
def classes_of_authors(backend: Backend, folder: Path) -> None:
    model = Dictionary(live_models.Config(), 1, more=2)
    assert model.given == ((1,), {"more": 2}) and model.times >= 1
    assert model.lm_head.weight is model.trunk.embed.weight and model.trunk.embed.weight.eq(0.25).all()
    model.trunk.conv.weight.data = model.trunk.conv.weight.data.transpose(0, 1)
    model.trunk.count = nn.Parameter(torch.tensor([3]), requires_grad=False)
    model.save_pretrained(folder)
    assert open_checkpoint(folder)["trunk.count"].dtype == np.int64

    class Counting(Dictionary):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.trunk.count = nn.Parameter(torch.tensor([0]), requires_grad=False)

    again = Counting.from_pretrained(folder, strict=True)
    assert_equal_states(again, model)
    assert not again.training and again.train().training and not again.eval().training
    assert again.config.name_or_path == again.config._name_or_path == str(folder) and again.times >= 1
    assert again(torch.tensor([[1, 2]])).shape == (1, 2, 7)
    assert again.half().dtype == torch.float16 and again.to("cpu").float().dtype == torch.float32
    again.set_input_embeddings(nn.Embedding(7, 4))
    again.tie_weights()
    assert again.lm_head.weight is again.get_input_embeddings().weight
    with pytest.raises(ArgumentError, match="config"):
        Dictionary({"width": 4})  # type: ignore[arg-type]


# -- attributes of classes -------------------------------------------------------------------------------------------


class OtherConfig(live_models.Config):
    model_type = "other_live"


@row("5.4.2", pt="Y", note="an attribute of the class itself goes first")
def the_config_class_is_annotated(backend: Backend, folder: Path) -> None:
    class Annotated(Trunk):
        config: OtherConfig

    class Both(Annotated):
        config: OtherConfig
        config_class = live_models.Config

    class Inherits(Annotated):
        config: Any

    assert (Annotated.config_class, Inherits.config_class) == (OtherConfig, OtherConfig)
    assert Both.config_class is live_models.Config


@row("5.4.6", pt="Y", note="of the older way over several devices, which v4 no longer had; kept for code that reads it")
@row("5.4.26", pt="Y", note="kept for the class's own code; built-in classes declare what they record")
@row("5.4.68", pt="Y")
@row("5.4.27", pt="Y", note="kept and readable; a load refuses tp_plan= by name")
def attributes_that_authors_set(backend: Backend, folder: Path) -> None:
    assert not PreTrainedModel.is_parallelizable and PreTrainedModel._no_split_modules is None
    assert Trunk(live_models.Config()).can_record_outputs == {}

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

    live_models.Config().save_pretrained(folder)
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
    model = Trunk(live_models.Config())
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

    model = LiveForTokenClassification(live_models.Config())
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
    assert_close(ours.detach(), output.loss.detach())
    half = model.loss_function(output.logits, labels, model.config.vocab_size, num_items_in_batch=14)
    assert_close(half.detach(), ours.detach() * 7 / 14)
    for kind, shape, wanted in (
        ("TokenClassification", (2, 5, 4), IDS % 4),
        ("SequenceClassification", (2, 4), IDS[:, 0] % 4),
    ):
        logits, config = torch.randn(shape), PretrainedConfig(num_labels=4)
        loss = LOSS_MAPPING[f"For{kind}"](**{("logits" if len(shape) == 3 else "pooled_logits"): logits},
                                          labels=wanted, config=config)  # fmt: skip
        assert_close(loss.detach(), functional.cross_entropy(logits.reshape(-1, 4), wanted.reshape(-1)).detach())
    assert config.problem_type == "single_label_classification"
    start, end = torch.randn(2, 5), torch.randn(2, 5)
    loss = LOSS_MAPPING["ForQuestionAnswering"](start, end, torch.tensor([1, 9]), torch.tensor([[2], [9]]))
    wanted_loss = functional.cross_entropy(start[:1], torch.tensor([1])) + functional.cross_entropy(
        end[:1], torch.tensor([2])
    )
    assert_close(loss.detach(), wanted_loss.detach() / 2)
    with pytest.raises(MissingMethodError, match="images"):
        LOSS_MAPPING["ForObjectDetection"]()
    with messages() as said:
        assert Trunk(live_models.Config()).loss_function is ForCausalLMLoss
    assert "loss_type None" in said[0]
    model.loss_function = functional.mse_loss
    assert model.loss_function is functional.mse_loss
    other = Trunk(live_models.Config())
    other.loss_function = nn.MSELoss()
    assert isinstance(other.loss_function, nn.MSELoss)


class Planned(PreTrainedModel):
    config_class = live_models.Config
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
    class PlannedConfig(live_models.Config):
        base_model_tp_plan: ClassVar[Any] = {"conv": "rowwise"}

    model = Planned(PlannedConfig())
    assert model.tp_plan == {"trunk.conv": "rowwise", "lm_head": "colwise_rep"} and model.supports_tp_plan
    assert list(model.pp_plan) == ["lm_head"] and model.supports_pp_plan and model.tp_size is None
    model.tp_plan = {}
    assert model.tp_plan == {"trunk.conv": "rowwise"}
    plain = Trunk(live_models.Config())
    assert not plain.supports_tp_plan and not plain.supports_pp_plan
    model.save_pretrained(folder)
    with pytest.raises(ArgumentError, match="tp_plan is not supported"):
        Planned.from_pretrained(folder, tp_plan="auto")


@row("5.4.67", pt="R", note="False; True is refused: the layers of a model are used as they are")
def kernels_of_the_hub(backend: Backend, folder: Path) -> None:
    model = Trunk(live_models.Config())
    assert model.use_kernels is False
    model.use_kernels = False
    with pytest.raises(ArgumentError, match="kernels"):
        model.use_kernels = True
