"""A few steps of SGD on one batch, in each framework as its users write them, and what is kept for the gradient."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from triptych.weights import layouts
from triptych_conformance.gradients import checkpointed, loss_of_flax, objective
from triptych_conformance.parity import Arrays, Backend


def losses_of_steps(
    backend: Backend, model: Any, inputs: Arrays, rate: float, steps: int, frozen: Collection[str] = ()
) -> list[float]:
    """Train `model` by `steps` of SGD; return the objective before each of them.

    Args:
        inputs: as of `gradients_of`, whose objective is lowered.
        frozen: canonical names of parameters that are not to be trained.
    """
    return _STEPS[backend.name](model, inputs, rate, steps, frozen)


def _steps_of_pt(model: Any, inputs: Arrays, rate: float, steps: int, frozen: Collection[str]) -> list[float]:
    import torch

    for name, parameter in model.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    tensors = {name: torch.tensor(value) for name, value in inputs.items()}
    optimizer, losses = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], rate), []
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = objective(model._ops, model(**tensors))
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def _steps_of_tf(model: Any, inputs: Arrays, rate: float, steps: int, frozen: Collection[str]) -> list[float]:
    import keras
    import tensorflow as tf

    paths = {layouts.native_path(weight, "tf") for weight in model.schema.stored() if weight.name in frozen}
    for path, (variable, _) in model._weights().items():
        if path in paths:
            variable.trainable = False
    optimizer, losses = keras.optimizers.SGD(rate), []
    for _ in range(steps):
        variables = model.trainable_variables
        with tf.GradientTape() as tape:
            loss = objective(model._ops, model(**inputs, training=True))
        found = tape.gradient(loss, [variable.value for variable in variables])
        seen = [
            (gradient, variable) for gradient, variable in zip(found, variables, strict=True) if gradient is not None
        ]
        optimizer.apply_gradients(seen)
        losses.append(float(loss))
    return losses


def _steps_of_flax(model: Any, inputs: Arrays, rate: float, steps: int, frozen: Collection[str]) -> list[float]:
    import jax
    from flax.traverse_util import flatten_dict, unflatten_dict

    held = {tuple(model._path(weight)) for weight in model.schema.stored() if weight.buffer or weight.name in frozen}
    every = flatten_dict(model.params)
    kept = {path: value for path, value in every.items() if path in held}
    trained = {path: value for path, value in every.items() if path not in held}

    def loss_of(trained: Any) -> Any:
        return loss_of_flax(model, unflatten_dict({**kept, **trained}), inputs)

    losses = []
    for _ in range(steps):
        loss, gradients = jax.value_and_grad(loss_of)(trained)
        trained = jax.tree.map(lambda value, gradient: value - rate * gradient, trained, gradients)
        losses.append(float(loss))
    model.params = unflatten_dict({**kept, **trained})
    return losses


_STEPS: dict[str, Callable[[Any, Arrays, float, int, Collection[str]], list[float]]] = {
    "pt": _steps_of_pt,
    "tf": _steps_of_tf,
    "flax": _steps_of_flax,
}


def objective_of(backend: Backend, model: Any, inputs: Arrays) -> float:
    """Return the objective of a call that trains, by which `model` does not change."""
    return _OBJECTIVES[backend.name](model, inputs)


def _objective_of_pt(model: Any, inputs: Arrays) -> float:
    import torch

    with torch.no_grad():
        output = model.train()(**{name: torch.tensor(value) for name, value in inputs.items()})
        return float(objective(model._ops, output))


def _objective_of_flax(model: Any, inputs: Arrays) -> float:
    return float(loss_of_flax(model, model.params, inputs))


_OBJECTIVES: dict[str, Callable[[Any, Arrays], float]] = {
    "pt": _objective_of_pt,
    "tf": lambda model, inputs: float(objective(model._ops, model(**inputs, training=True))),
    "flax": _objective_of_flax,
}


def numbers_kept(model: Any, inputs: Arrays, checkpointing: bool) -> int:
    """Return how many elements the tensors have that a model of PyTorch keeps for the gradient of its objective."""
    import torch

    kept: list[int] = []

    def keep(tensor: Any) -> Any:
        kept.append(tensor.numel())
        return tensor

    was_training = model.training
    try:
        with checkpointed(model, checkpointing), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.train()(**{name: torch.tensor(value) for name, value in inputs.items()})
    finally:
        model.train(was_training)
    return sum(kept)


def held_by(backend: Backend, model: Any) -> dict[str, np.ndarray]:
    """Return everything that a model holds, by the framework's names: weights, buffers, states of random numbers."""
    return {name: np.array(value) for name, value in _HELD[backend.name](model).items()}


def _held_by_pt(model: Any) -> dict[str, Any]:
    return {name: value.detach().cpu().numpy() for name, value in (*model.named_parameters(), *model.named_buffers())}


def _held_by_tf(model: Any) -> dict[str, Any]:
    return {f"{number} {variable.path}": variable.numpy() for number, variable in enumerate(model.variables)}


def _held_by_flax(model: Any) -> dict[str, Any]:
    import jax

    leaves = jax.tree_util.tree_leaves_with_path(model.params)
    return {jax.tree_util.keystr(path): value for path, value in leaves}


_HELD: dict[str, Callable[[Any], dict[str, Any]]] = {"pt": _held_by_pt, "tf": _held_by_tf, "flax": _held_by_flax}
