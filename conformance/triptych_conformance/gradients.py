"""Gradients of a model in the three frameworks, parameter by parameter, under canonical names and in one layout.

They may lie apart by 1e-5 of the largest in the model. Not of the parameter's own: some have a gradient of nothing but
rounding, such as the bias of keys, which no softmax sees.

A query that sees no key at all, such as a token of padding on the left, is no case for a comparison: beside the lowest
value of float32 the backward pass of PyTorch's fused attention on a CPU loses the sum of the probabilities, and its
gradients are not those of the forward pass (2.13; of "eager" attention they are).
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from triptych.modeling.auto import AutoConfig
from triptych.tensors.arrays import permuted
from triptych.weights import layouts
from triptych_conformance.parity import BACKENDS, Arrays, Backend, Parity, paired
from triptych_conformance.tolerance import FLOAT32, Comparison, largest_difference


def compare_gradients(folder: Any, stem: str, inputs: Arrays, checkpointing: bool = False) -> Parity:
    """Load `folder` as class `stem` in every backend, without dropout, and compare the gradient of each parameter.

    Args:
        inputs: as of `gradients_of`.
        checkpointing: whether layers are computed anew for the gradient.
    """
    config = without_dropout(AutoConfig.from_pretrained(folder))
    found = {}
    for backend in BACKENDS:
        model = backend.load(stem, folder, config=copy.deepcopy(config))
        found[backend.name] = gradients_of(backend, model, inputs, checkpointing)
    return gradient_parity(found)


def gradients_of(backend: Backend, model: Any, inputs: Arrays, checkpointing: bool = False) -> dict[str, np.ndarray]:
    """Return the gradient of each parameter that is trained, by canonical name, in canonical layout, float32.

    It is that of the losses, if the output has any, or else of a weighted mean of each output: see `objective`. The
    model is in training mode meanwhile; it is as it was afterwards. A parameter that has no part in it gets zeros.

    Args:
        inputs: numpy arrays by argument name, labels among them.
        checkpointing: whether layers are computed anew for the gradient.
    """
    with checkpointed(model, checkpointing):
        found = _GRADIENTS[backend.name](model, inputs)
    weights = {weight.name: weight for weight in model.schema.stored()}
    result = {}
    for name, gradient in found.items():
        weight = weights[name]
        order = layouts.to_canonical(weight.layout, len(weight.shape), backend.name)
        result[name] = np.zeros(weight.shape, np.float32) if gradient is None else permuted(gradient, order)
    return result


def gradient_parity(found: Mapping[str, Arrays]) -> Parity:
    """Return how far the gradients of each two backends lie apart: see the module. `found` are gradients by name of
    the backend."""
    return paired(found, _compared)


def without_dropout(config: Any) -> Any:
    """Return `config`, and the configs within it, with every rate of dropout set to zero."""
    for name, value in list(vars(config).items()):
        if hasattr(value, "to_dict"):
            without_dropout(value)
        elif "drop" in name and isinstance(value, (int, float)):
            setattr(config, name, 0.0)
    config.classifier_dropout = 0.0  # which classes for tokens have a rate for where a config has none
    return config


def objective(ops: Any, output: Any) -> Any:
    """Return the sum of the losses in `output`, or else of the weighted means of its arrays of floats.

    Args:
        ops: the backend's, as declarations have it.
    """
    losses = [value for name, value in output.items() if name.endswith("loss") and value is not None]
    if losses:
        return sum(losses)
    arrays = [value for value in output.values() if "float" in str(getattr(value, "dtype", ""))]
    return sum(ops.sum(value * ops.constant(_weights(tuple(value.shape)), value)) for value in arrays)


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return (np.cos(np.arange(count)) / count).reshape(shape).astype(np.float32)


def _compared(gradients: Arrays, reference: Arrays) -> dict[str, Comparison]:
    largest = max((float(np.abs(array).max(initial=0.0)) for array in reference.values()), default=0.0)
    absent, result = Comparison(float("inf"), FLOAT32), {}
    for name in dict.fromkeys((*reference, *gradients)):
        if name not in reference or name not in gradients or not np.isfinite(reference[name]).all():
            result[name] = absent
            continue
        result[name] = Comparison(largest_difference(gradients[name], reference[name]), FLOAT32 * largest)
    return result


@contextmanager
def checkpointed(model: Any, on: bool) -> Iterator[None]:
    """Let layers be computed anew for the gradient in a context, if `on`."""
    if on:
        model.gradient_checkpointing_enable()
    try:
        yield
    finally:
        if on:
            model.gradient_checkpointing_disable()


def _of_pt(model: Any, inputs: Arrays) -> dict[str, np.ndarray | None]:
    import torch

    parameters = {name: p for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    parameters = {weight.name: parameters[weight.name] for weight in model.schema.stored() if weight.name in parameters}
    before, was_training = {name: p.grad for name, p in parameters.items()}, model.training
    model.train()
    try:
        for parameter in parameters.values():
            parameter.grad = None
        output = model(**{name: torch.tensor(value) for name, value in inputs.items()})
        objective(model._ops, output).backward()  # not autograd.grad, which reentrant checkpoints refuse
        found = {name: p.grad for name, p in parameters.items()}
        return {name: None if g is None else g.float().cpu().numpy() for name, g in found.items()}
    finally:
        model.train(was_training)
        for name, parameter in parameters.items():
            parameter.grad = before[name]


def _of_tf(model: Any, inputs: Arrays) -> dict[str, np.ndarray | None]:
    import tensorflow as tf

    at = {path: variable for path, (variable, _) in model._weights().items() if variable.trainable}
    named = {weight.name: layouts.native_path(weight, "tf") for weight in model.schema.stored()}
    variables = {name: at[path] for name, path in named.items() if path in at}
    with tf.GradientTape() as tape:
        loss = objective(model._ops, model(**inputs, training=True))
    found = tape.gradient(loss, [variable.value for variable in variables.values()])
    return {
        name: None if g is None else np.asarray(tf.cast(tf.convert_to_tensor(g), tf.float32))
        for name, g in zip(variables, found, strict=True)
    }


def _of_flax(model: Any, inputs: Arrays) -> dict[str, np.ndarray | None]:
    import jax

    # Not compiled as a whole: that takes longer, since models share what is compiled for single operations.
    found = jax.grad(lambda params: loss_of_flax(model, params, inputs))(model.params)
    weights = [weight for weight in model.schema.stored() if not weight.buffer]
    return {weight.name: _leaf(found, model._path(weight)) for weight in weights}


def _leaf(tree: Any, path: Sequence[str]) -> np.ndarray:
    return np.asarray(functools.reduce(operator.getitem, path, tree)).astype(np.float32)


def loss_of_flax(model: Any, params: Any, inputs: Arrays) -> Any:
    """Return the objective of a call of a model of Flax that trains, with these parameters."""
    import jax

    output = model(**inputs, params=params, train=True, dropout_rng=jax.random.PRNGKey(0))
    return objective(model._ops, output[0] if type(output) is tuple else output)


_GRADIENTS: dict[str, Callable[[Any, Arrays], dict[str, np.ndarray | None]]] = {
    "pt": _of_pt,
    "tf": _of_tf,
    "flax": _of_flax,
}
