"""Dropout of PyTorch by a seed of core's: see `triptych.modeling.seeding`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from triptych.modeling.seeding import Seeding
from triptych.nn.seeding import Stream, draw_from
from triptych_pt import internals, ops
from triptych_pt.make import Dropout


class Counting:
    """What counts the calls of a model that train, and moves `stream` to a new step each time: a hook."""

    def __init__(self, stream: Stream, step: int) -> None:
        self.stream, self.step = stream, torch.tensor(step)  # of a number torch.compile would make a constant

    def __call__(self, model: nn.Module, args: Any) -> None:
        if model.training:
            self.stream.move_to(ops, self.step)
            self.step = self.step + 1


class SeedsDropout(Seeding):
    """Part of `PreTrainedModel`."""

    named_modules: Any
    register_forward_pre_hook: Any
    _counting: Any = None

    def _dropouts(self) -> Iterable[tuple[str, Dropout]]:
        return ((path, one) for path, one in self.named_modules() if isinstance(one, Dropout))

    def _seed_dropout(self, seed: int | None, step: int, shard: int) -> None:
        if self._counting is not None:
            self._counting.remove()
            self._counting = None
        stream = None if seed is None else Stream(ops, seed, step, shard)
        draw_from(self._dropouts(), stream)
        if stream is not None:
            self._warn_of_unseeded()
            self._counting = self.register_forward_pre_hook(Counting(stream, step))

    def _unseeded_layers(self) -> Iterable[str]:
        for path, one in self.named_modules():
            is_dropout = internals.is_dropout(one) and not isinstance(one, Dropout)
            rate = one.p if is_dropout else getattr(one, "dropout", 0)
            if rate and (is_dropout or isinstance(one, (nn.MultiheadAttention, nn.RNNBase))):
                yield path
