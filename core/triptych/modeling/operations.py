"""The surgery of the three base classes: what changes the shapes of a live model's weights."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from triptych.errors import ArgumentError
from triptych.modeling.embeddings import Embeddings
from triptych.modeling.packing import Packs
from triptych.modeling.utilities import ModuleUtils
from triptych.weights import surgery

logger = logging.getLogger("triptych")


class Operations(Packs, Embeddings, ModuleUtils):
    """Part of `ModelBase`: resizing the vocabulary and pruning heads, as `triptych.weights.surgery` plans them."""

    def resize_token_embeddings(
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        *,
        seed: int = 0,
    ) -> Any:
        """Change the vocabulary: embeddings, heads, their biases and `config.vocab_size` together.

        Args:
            new_num_tokens: rows afterwards; None keeps the number.
            pad_to_multiple_of: round the number up to a multiple.
            mean_resizing: draw new rows around the mean of the old ones, with 1e-9 times their covariance; otherwise
                from a normal distribution with `config.initializer_range`, or in PyTorch as the `_init_weights` of a
                class of yours has it.
            seed: the same seed gives the same rows in all three frameworks, whatever their own seeds are.

        Returns:
            The input embeddings, as `get_input_embeddings` does.

        Raises:
            ArgumentError: an impossible size, or a model without vocabulary; the model is unchanged.
        """
        self._refuse_packed("resized", surgery.VOCAB)
        schema = self.schema
        self._refuse_other_embeddings(schema)
        plan = surgery.plan_resize(schema, self.config, new_num_tokens, pad_to_multiple_of, mean_resizing, seed)
        if pad_to_multiple_of is None:
            logger.info("pad_to_multiple_of=8, or 64, would let tensor cores multiply by the embeddings at full speed")
        if plan.growing and mean_resizing:
            _warn_of_drawn_rows()
        self._operate(plan)
        if not mean_resizing:
            self._initialise_rows(plan.growing)
        return self.get_input_embeddings()

    def prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Remove attention heads, by layer and original head number; `config.pruned_heads` remembers them.

        Raises:
            ArgumentError: an unknown layer or head, or all heads of a layer; the model is unchanged.
        """
        self._refuse_packed("pruned")
        if not self._prunes_itself():
            self._operate(surgery.plan_prune(self.schema, self.config, heads_to_prune))
            return
        wanted = {layer: set(heads) for layer, heads in surgery.heads_by_layer(heads_to_prune)}
        pruned = {layer: set(heads) for layer, heads in self.config.pruned_heads.items()}
        self.base_model._prune_heads(wanted)
        self.config.update({"pruned_heads": {n: sorted(pruned.get(n, set()) | wanted.get(n, set()))
                                             for n in {*pruned, *wanted}}})  # fmt: skip

    def _prune_heads(self, heads_to_prune: Mapping[int, Iterable[int]]) -> None:
        """Remove attention heads of this model: a class whose layers are its own may override it."""
        self.prune_heads(heads_to_prune)

    def _prunes_itself(self) -> bool:
        """Return whether the backbone's class has its own way to prune."""
        return getattr(type(self.base_model), "_prune_heads", None) not in (None, Operations._prune_heads)

    def _operate(self, plan: surgery.Surgery) -> None:
        """Compute every new array before the first is assigned, so that a failure changes nothing."""
        schema, read = self.schema, self._reader()
        changed = {edit.weight for edit in plan.edits}
        arrays = {name: surgery.apply_to(schema[name], read(schema[name]), plan) for name in changed}
        (_config_of_text(self.config) if "vocab_size" in plan.config_changes else self.config).update(
            plan.config_changes
        )
        self._replace(arrays)
        nested = self._nested_models()
        within = [one for path, one in nested.items() if path == self.base_model_prefix or len(nested) == 1]
        for model in (self, *within):
            _follow(model, plan.config_changes)

    def get_memory_footprint(self, return_buffers: bool = True) -> int:
        """Return the bytes that the weights take; a tied weight counts once."""
        weights = [weight for weight in self.schema.values() if weight.tied_to is None]
        dtype_of = self._dtype_reader()
        return sum(math.prod(weight.shape) * dtype_of(weight).itemsize for weight in weights)

    def _mask_dtype(self) -> Any:
        return self._cache_dtype()


def _config_of_text(config: Any) -> Any:
    """Return the config whose vocabulary is the model's: of its text part, unless there are several."""
    try:
        return config.get_text_config()
    except ArgumentError:
        return config


@cache
def _warn_of_drawn_rows() -> None:
    """Warn, once in a process, that new rows follow the old ones."""
    logger.warning(
        "New rows of the vocabulary are drawn around the mean of the old ones, with 1e-9 times their covariance; "
        "mean_resizing=False initialises them as a new model's"
    )


def _follow(model: Any, changes: Mapping[str, Any]) -> None:
    """Let what a model says of itself agree with what was changed."""
    for name, value in changes.items():
        if getattr(model.config, name, value) != value:
            model.config.update({name: value})
        if name == "vocab_size" and isinstance(vars(model).get(name), int):
            setattr(model, name, value)
