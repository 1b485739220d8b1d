"""Dropout of Flax by a seed of core's: see `triptych.modeling.seeding`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from flax import linen as nn

from triptych.errors import ArgumentError
from triptych.modeling.seeding import Seeding, warn_of_unseeded
from triptych.nn.seeding import Stream
from triptych_flax import make, ops

_owner: ContextVar[Any] = ContextVar("owner", default=None)
"""The model whose dropout is drawn by a seed."""


class SeedsDropout(Seeding):
    """Part of `FlaxPreTrainedModel`."""

    @contextmanager
    def _drawing_from(self, stream: Stream) -> Iterator[None]:
        before = _owner.set(self)
        try:
            with make.drawing_from(stream):
                yield
        finally:
            _owner.reset(before)

    def _seed_dropout(self, seed: int | None, step: int, shard: int) -> None:
        if seed is not None:
            raise ArgumentError(
                "A model of Flax has no state that could count the batches.",
                expected="`with model.seeded_dropout(seed, step):` around the call, in the function that is compiled",
                received=f"seed_dropout({seed})",
            )

    def _stream(self) -> Stream | None:
        """Return what the dropout of a call of this model draws from.

        Raises:
            ArgumentError: a function is being traced that would keep the step.
        """
        stream = make.stream() if _owner.get() is self else None
        if stream is not None:
            stream.check(ops)
        return stream

    @contextmanager
    def _drawing(self, stream: Stream | None) -> Iterator[None]:
        """Draw from `stream`, or else as Flax does, in a call of the module, and name what is random besides."""
        if stream is None:
            with make.drawing_from(None):
                yield
            return
        found: dict[str, None] = {}

        def look(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name == "__call__" and _is_random(context.module, args, kwargs):
                found[".".join(context.module.path)] = None
            return call(*args, **kwargs)

        with nn.intercept_methods(look):
            yield
        if found and not vars(self).get("_told_of_unseeded"):
            vars(self)["_told_of_unseeded"] = True
            warn_of_unseeded(self, found)


def _is_random(module: nn.Module, args: Any, kwargs: Any) -> bool:
    """Return whether this call of a module draws random numbers of Flax's."""
    if not module.has_rng("dropout"):
        return False
    if isinstance(module, nn.Dropout):
        said = kwargs.get("deterministic", args[1] if len(args) > 1 else None)
        return module.rate > 0 and not (module.deterministic if said is None else said)
    if isinstance(module, nn.MultiHeadDotProductAttention):
        said = kwargs.get("deterministic", module.deterministic)
        return module.dropout_rate > 0 and not said
    return False
