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
import importlib
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from triptych.modeling.auto import AutoConfig
from triptych.tensors.arrays import permuted
from triptych.weights import layouts
from triptych_conformance.parity import BACKENDS, Arrays, Backend, Parity, paired
from triptych_conformance.tolerance import FLOAT32, LOW_PRECISION, Comparison, largest_difference, root_mean_square


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
        return loss_and_gradients(backend.name, model, inputs, training=True)[1]


def loss_and_gradients(framework: str, model: Any, inputs: Arrays, training: bool = False
                       ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:  # fmt: skip
    """Return what is differentiated, as "loss", or "objective" where the output has no loss; and `gradients_of`.

    Args:
        framework: "pt", "tf" or "flax".
        model: one of triptych, or any module of torch; its parameters are named as they are there, tied ones once.
        training: whether in training mode; else without dropout, whatever the class has as its rate.
    """
    losses, found = _GRADIENTS[framework](model, inputs, training)
    if not hasattr(model, "_tensor_refs"):
        shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
        return losses, {n: np.zeros(shapes[n], np.float32) if g is None else g for n, g in found.items()}
    weights = {weight.name: weight for weight in model.schema.stored()}
    result = {}
    for name, gradient in found.items():
        weight = weights[name]
        order = layouts.to_canonical(weight.layout, len(weight.shape), framework)
        result[name] = np.zeros(weight.shape, np.float32) if gradient is None else permuted(gradient, order)
    return losses, result


def gradient_parity(found: Mapping[str, Arrays]) -> Parity:
    """Return how far the gradients of each two backends lie apart: see the module. `found` are gradients by name of
    the backend."""
    return paired(found, compared_gradients)


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
    if losses := _losses(output):
        return sum(losses)
    arrays = [value for value in output.values() if "float" in str(getattr(value, "dtype", ""))]
    return sum(ops.sum(value * ops.constant(_weights(tuple(value.shape)), value)) for value in arrays)


def _losses(output: Any) -> list[Any]:
    return [value for name, value in output.items() if name.endswith("loss") and value is not None]


def _named(output: Any, value: Any) -> dict[str, np.ndarray]:
    return {"loss" if _losses(output) else "objective": np.asarray(value, np.float32)}


def _weights(shape: tuple[int, ...]) -> np.ndarray:
    count = int(np.prod(shape))
    return (np.cos(np.arange(count)) / count).reshape(shape).astype(np.float32)


def compared_gradients(gradients: Arrays, reference: Arrays) -> dict[str, Comparison]:
    """Return how far each gradient is from the reference's, and how far it may be: see the module."""
    largest = max((float(np.abs(array).max(initial=0.0)) for array in reference.values()), default=0.0)
    absent, result = Comparison(float("inf"), FLOAT32), {}
    for name in dict.fromkeys((*reference, *gradients)):
        if name not in reference or name not in gradients or not np.isfinite(reference[name]).all():
            result[name] = absent
            continue
        result[name] = Comparison(largest_difference(gradients[name], reference[name]), FLOAT32 * largest)
    return result


def compared_in_low_precision(gradients: Arrays, exact: Arrays, theirs: Arrays) -> dict[str, Comparison]:
    """Return how far each gradient is from the float32 one, and how far it may be.

    That is LOW_PRECISION times as far as the worst of the reference's own (`theirs`): some of a parameter's gradients
    are nothing but rounding, of which one is as good as another.
    """
    shared = [name for name in exact if name in theirs and name in gradients]
    off = {name: root_mean_square(theirs[name], exact[name]) for name in shared}
    allowed = LOW_PRECISION * max(off.values(), default=0.0)
    result = {name: Comparison(float("inf"), FLOAT32) for name in dict.fromkeys((*theirs, *gradients))}
    for name in shared:
        comparison = Comparison(root_mean_square(gradients[name], exact[name]), allowed)
        result[name] = comparison if np.isfinite(allowed) else Comparison(float("inf"), FLOAT32)
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


Found = tuple[dict[str, np.ndarray], dict[str, np.ndarray | None]]
"""What is differentiated, by "loss" or "objective"; and gradients in the framework's layout, by canonical name."""


def _of_pt(model: Any, inputs: Arrays, training: bool) -> Found:
    import torch

    parameters = _trained(model)
    before, was_training = {name: p.grad for name, p in parameters.items()}, model.training
    model.train(training)
    try:
        for parameter in parameters.values():
            parameter.grad = None
        output = model(**{name: torch.tensor(value) for name, value in inputs.items()})
        loss = objective(importlib.import_module("triptych_pt.ops"), output)
        loss.backward()  # not autograd.grad, which reentrant checkpoints refuse
        found = {name: p.grad for name, p in parameters.items()}
        gradients = {name: None if g is None else g.float().cpu().numpy() for name, g in found.items()}
        return _named(output, loss.detach().float().cpu()), gradients
    finally:
        model.train(was_training)
        for name, parameter in parameters.items():
            parameter.grad = before[name]


def _trained(model: Any) -> dict[str, Any]:
    """Return the parameters that are trained, each once."""
    if not hasattr(model, "_tensor_refs"):
        return {name: p for name, p in model.named_parameters() if p.requires_grad}
    named = {name: p for name, p in model.named_parameters(remove_duplicate=False) if p.requires_grad}
    return {weight.name: named[weight.name] for weight in model.schema.stored() if weight.name in named}


def _of_tf(model: Any, inputs: Arrays, training: bool) -> Found:
    import tensorflow as tf

    at = {path: variable for path, (variable, _) in model._weights().items() if variable.trainable}
    named = {weight.name: layouts.native_path(weight, "tf") for weight in model.schema.stored()}
    variables = {name: at[path] for name, path in named.items() if path in at}
    with tf.GradientTape() as tape:
        output = model(**inputs, training=training)
        loss = objective(model._ops, output)
    found = tape.gradient(loss, [variable.value for variable in variables.values()])
    gradients = {
        name: None if g is None else np.asarray(tf.cast(tf.convert_to_tensor(g), tf.float32))
        for name, g in zip(variables, found, strict=True)
    }
    return _named(output, tf.cast(loss, tf.float32)), gradients


def _of_flax(model: Any, inputs: Arrays, training: bool) -> Found:
    import jax

    outputs: list[Any] = []

    def loss_of(params: Any) -> Any:
        outputs[:] = [_output_of_flax(model, params, inputs, training)]
        return objective(model._ops, outputs[0])

    # Not compiled as a whole: that takes longer, since models share what is compiled for single operations.
    loss, found = jax.value_and_grad(loss_of)(model.params)
    weights = [weight for weight in model.schema.stored() if not weight.buffer]
    return _named(outputs[0], loss), {weight.name: _leaf(found, model._path(weight)) for weight in weights}


def _leaf(tree: Any, path: Sequence[str]) -> np.ndarray:
    return np.asarray(functools.reduce(operator.getitem, path, tree)).astype(np.float32)


def loss_of_flax(model: Any, params: Any, inputs: Arrays) -> Any:
    """Return the objective of a call of a model of Flax that trains, with these parameters."""
    return objective(model._ops, _output_of_flax(model, params, inputs, training=True))


def _output_of_flax(model: Any, params: Any, inputs: Arrays, training: bool) -> Any:
    import jax

    options = {"train": True, "dropout_rng": jax.random.PRNGKey(0)} if training else {}
    output = model(**inputs, params=params, **options)
    return output[0] if type(output) is tuple else output  # beside it: what changed of other collections


_GRADIENTS: dict[str, Callable[[Any, Arrays, bool], Found]] = {"pt": _of_pt, "tf": _of_tf, "flax": _of_flax}
