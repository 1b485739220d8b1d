"""What an author says of a model, and the two marks of tests: which feature a test needs, and whom it compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from triptych.config.base import PretrainedConfig
from triptych.errors import ArgumentError
from triptych_conformance.inputs import make_inputs, make_labels
from triptych_conformance.suite.features import FEATURES

Inputs = dict[str, np.ndarray]
PROMPT = 5
"""How many tokens texts begin with."""


def needs(*features: str) -> Callable[[Any], Any]:
    """Mark a test of models that have all of `features`.

    Raises:
        ArgumentError: there is no such feature.
    """
    if unknown := [name for name in features if name not in FEATURES]:
        raise ArgumentError("There is no such feature.", expected=", ".join(FEATURES), received=", ".join(unknown))
    return pytest.mark.triptych_needs(*features)


class SubjectTests:
    """What the tests of one model are about.

    Attributes:
        models: the class of each framework ("pt", "tf", "flax"), or "module:Class", which is imported where it is
            tested. Frameworks that are not in it are not tested.
        config: a small config; each test gets a copy. Epsilons far from the usual, an odd activation, numbers of
            heads and layers that differ show more mistakes than defaults do.
        origin: the model that this is a port of, "module:Class" with a `from_pretrained` as transformers' classes
            have; its PyTorch outputs are then the reference. Default: none.
        lacks: which of `FEATURES` the model has not, and why. Their tests are left out; that it is so is tested.
        gaps: tests that fail as yet, and why: by the name of the test ("test_prune_heads", of all frameworks) or of
            one run of it ("test_prune_heads[tf]"). One that passes after all fails the run.
        no_gradient: patterns of the names of parameters that no loss depends on, as `fnmatch` has them, such as a bias
            under a softmax; that it is so, but for rounding, is tested.
    """

    models: ClassVar[Mapping[str, Any]] = {}
    config: ClassVar[PretrainedConfig | None] = None
    origin: ClassVar[str | None] = None
    lacks: ClassVar[Mapping[str, str]] = {}
    gaps: ClassVar[Mapping[str, str]] = {}
    no_gradient: ClassVar[Sequence[str]] = ()

    def make_inputs(self, config: PretrainedConfig, stem: str) -> Inputs:
        """Return arguments of a call by name. Default: what a class with its `main_input_name` reads, ids with a mask
        that has some zeros at the end of the last row, pixels, or sound: see `triptych_conformance.inputs`.

        `attention_mask` [B, Q], if it is among them, says which positions of the outputs count.
        """
        from triptych_conformance.suite.subject import backends_of, named

        kind = named(self.models[backends_of(type(self))[0].name])
        return make_inputs(config, stem, main=kind.main_input_name)

    def make_labels(self, config: PretrainedConfig, stem: str, inputs: Inputs) -> Inputs:
        """Return what a call reads beside `inputs` to give a loss. Default: by the class's name, as its heads are."""
        return make_labels(config, stem, inputs)

    def make_heads(self, config: PretrainedConfig, stem: str) -> dict[int, list[int]]:
        """Return attention heads to prune, by layer. Default: the first of the first layer, and all but the second of
        the last; with groups of heads that share a key, the first group, and all but the first head of each."""
        heads = getattr(config, "num_attention_heads", 2)
        group = heads // (getattr(config, "num_key_value_heads", None) or heads)
        last = getattr(config, "num_hidden_layers", 1) - 1
        if group == 1:
            return {0: [0], last: [head for head in range(heads) if head != 1]}
        return {0: [*range(group)], last: [head for head in range(heads) if head % group]}

    def make_head_masks(self, config: PretrainedConfig, stem: str, heads: Mapping[int, Sequence[int]]) -> Inputs:
        """Return arguments of a call that mask `heads`, the result of `make_heads`. Default: `head_mask`."""
        return {"head_mask": head_mask(config.num_hidden_layers, config.num_attention_heads, heads)}

    def make_prompts(self, config: PretrainedConfig, stem: str, inputs: Inputs) -> Inputs:
        """Return what `generate` is given to write texts after. Default: `inputs`, of a decoder the first five tokens,
        which no mask hides; of an encoder-decoder what the encoder reads."""
        if config.is_encoder_decoder:
            return {name: value for name, value in inputs.items() if not name.startswith("decoder_")}
        tokens = ("input_ids", "token_type_ids", "position_ids")
        return {name: value[:, :PROMPT] if name in tokens else value
                for name, value in inputs.items() if name != "attention_mask"}  # fmt: skip


def head_mask(layers: int, count: int, gone: Mapping[int, Sequence[int]]) -> np.ndarray:
    """Return a mask [layers, count] float32 with a zero for each head that is `gone`, by layer."""
    mask = np.ones((layers, count), np.float32)
    for layer, numbers in gone.items():
        mask[layer, list(numbers)] = 0
    return mask
