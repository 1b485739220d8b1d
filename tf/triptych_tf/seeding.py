"""Dropout of Keras by a seed of core's: see `triptych.modeling.seeding`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import keras
import tensorflow as tf

from triptych.errors import ArgumentError
from triptych.modeling.seeding import Seeding
from triptych.nn.seeding import draw_from
from triptych_tf import internals
from triptych_tf.make import LEVEL, TFDropout


class Waiting:
    """What dropout layers draw from between the batches of `fit`: nothing."""

    def check(self, ops: Any) -> None:
        """Raise `ArgumentError`."""
        raise ArgumentError(
            "The batches of this loop have no number that the dropout could be drawn by.",
            expected="training by `fit` or `train_on_batch` of the model, of which seed_dropout counts the batches",
            received="another call with training=True",
            remedy="call model.seed_dropout(None), and use `with model.seeded_dropout(seed, step):` in the loop",
        )


class SeedsDropout(Seeding):
    """Part of `TFPreTrainedModel`."""

    optimizer: Any
    _seeded: tuple[int, int, int] | None = None
    _forget_compiled: Callable[[], None]

    def _dropouts(self) -> Iterable[tuple[str, TFDropout]]:
        return ((path, one) for path, one in _walk(self) if isinstance(one, TFDropout))

    def _seed_dropout(self, seed: int | None, step: int, shard: int) -> None:
        self.__dict__["_seeded"] = None if seed is None else (seed, step, shard)
        draw_from(self._dropouts(), None if seed is None else Waiting())  # type: ignore[arg-type]
        if seed is not None:
            self._warn_of_unseeded()
        self._forget_compiled()

    def _batch_seeded(self) -> AbstractContextManager[None]:
        """Return a context for one batch of `fit`, in which dropout is drawn by the seed of `seed_dropout`, if any."""
        if self.__dict__.get("_seeded") is None:
            return nullcontext()
        seed, step, shard = self.__dict__["_seeded"]
        replica = tf.distribute.get_replica_context()
        step = internals.batches_seen(self.optimizer) + step
        step = int(step) if tf.executing_eagerly() else step
        return self.seeded_dropout(seed, step, shard if replica is None else replica.replica_id_in_sync_group + shard)

    def _unseeded_layers(self) -> Iterable[str]:
        return (path for path, one in _walk(self) if internals.is_random(one) and not isinstance(one, TFDropout))


def _walk(layer: keras.layers.Layer, path: tuple[str, ...] = ()) -> Iterator[tuple[str, keras.layers.Layer]]:
    """Yield the layers below `layer`, each after its canonical path."""
    for part in internals.parts_of(layer):
        here = (*path, part.name.replace(LEVEL, ".")) if getattr(part, "is_level", True) else path
        yield ".".join(here), part
        yield from _walk(part, here)
