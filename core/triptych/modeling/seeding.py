"""Dropout by a seed that means the same in PyTorch, TensorFlow and JAX, so that one seed is one training run."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from triptych.modeling.hooks import Hooks
from triptych.nn.seeding import Stream, draw_from

logger = logging.getLogger("triptych")


class Seeding(Hooks):
    """Part of `ModelBase`: what the dropout of a model is drawn by. By default, as its framework does."""

    @contextmanager
    def seeded_dropout(self, seed: int, step: Any = 0, shard: Any = 0) -> Iterator[None]:
        """Let calls that train in this context drop what `seed` and `step` say, the same in every framework.

        Which values a layer drops is a function of `seed`, `step`, `shard`, the layer's path in the model and the
        tensor's shape, by Threefry-2x32 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3",
        SC 2011). No state is kept: to resume a run, pass the step. Two calls with one step drop the same values; give
        each batch a step of its own, also where gradients of several are added up. A rate is rounded to 16 bits.

        The context belongs where the step is known: within a function that `jax.jit` or `tf.function` traces, whose
        argument the step is, and around the `backward` of PyTorch, where a function of the caller's own computes layers
        anew. Layers of an author's own that are random are not drawn by the seed, and named in a warning.

        Args:
            seed: an integer from 0 to 2^64 - 1.
            step: number of the batch, from 0 to 2^32 - 1; or an integer array without axes, which may be of a trace.
            shard: which of the equal parts of the batch this process or device has, where it computes for a part alone
                (DistributedDataParallel, `shard_map`): together they drop what one would. An integer or an array.

        Raises:
            ArgumentError: one of them is none of that; in a call: the context is outside of a function that is traced.
        """
        with self._drawing_from(Stream(self._ops, seed, step, shard)):
            yield

    def seed_dropout(self, seed: int | None, step: int = 0, shard: int = 0) -> None:
        """As `seeded_dropout`, from now on, for a training loop that is not the caller's: batches count as steps.

        In PyTorch each call of the model that trains is a step, the first of them `step`. In TensorFlow each batch of
        `fit` is; the number is `step` and the batches that the optimizer, which Keras saves, has seen already.

        Args:
            seed: an integer from 0 to 2^64 - 1; None ends it.
            step: number of the first batch; to resume a run, how many there were.
            shard: see `seeded_dropout`. Replicas of a strategy of TensorFlow have their number added.

        Raises:
            ArgumentError: one of them is none of that; or the framework is JAX, where a model has no state that counts.
        """
        if seed is not None:
            Stream(self._ops, seed, step, shard)
        self._seed_dropout(seed, step, shard)

    def _warn_of_unseeded(self) -> None:
        """Name once the layers that draw as their framework does, whatever the seed."""
        if not vars(self).get("_told_of_unseeded"):
            vars(self)["_told_of_unseeded"] = True
            warn_of_unseeded(self, self._unseeded_layers())

    @contextmanager
    def _drawing_from(self, stream: Stream) -> Iterator[None]:
        """Let dropout layers draw from `stream` in a context."""
        self._warn_of_unseeded()
        layers = list(self._dropouts())
        before = [layer.stream for _, layer in layers]
        draw_from(layers, stream)
        try:
            yield
        finally:
            for (_, layer), one in zip(layers, before, strict=True):
                vars(layer)["stream"] = one

    # -- hooks --------------------------------------------------------------------------------------------------

    def _dropouts(self) -> Iterable[tuple[str, Any]]:
        """Return the layers that can draw from a `Stream`, each after its path."""
        raise NotImplementedError

    def _seed_dropout(self, seed: int | None, step: int, shard: int) -> None:
        """Do what `seed_dropout` says."""
        raise NotImplementedError

    def _unseeded_layers(self) -> Iterable[str]:
        """Return the paths of layers that are random and do not draw from a `Stream`."""
        raise NotImplementedError


def warn_of_unseeded(model: Any, paths: Iterable[str]) -> None:
    """Warn of layers that draw as their framework does, whatever the seed."""
    if named := ", ".join(paths):
        logger.warning("%s: dropout of these layers, which are not triptych's, is not drawn by the seed: %s",
                       type(model).__name__, named)  # fmt: skip
