"""What becomes of a training when weights get other shapes: compiled functions are made anew, optimisers follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import keras
import numpy as np
import tensorflow as tf

from triptych_tf import arrays, internals

Carry = Callable[[np.ndarray], np.ndarray]
"""What a surgery does to an array in the order and shape of a variable, with zeros where it adds rows."""
_callers: WeakKeyDictionary[keras.layers.Layer, WeakSet[keras.Model]] = WeakKeyDictionary()


def note_caller(model: keras.Model) -> None:
    """Note which model of Keras calls `model`, a layer of it: what that one has compiled holds this one's weights."""
    caller = internals.called_by()
    if caller is not None and caller is not model and isinstance(caller, keras.Model):
        _callers.setdefault(model, WeakSet()).add(caller)


def models_around(model: keras.Model) -> list[keras.Model]:
    """Return `model`, the models of Keras in it and those that call it."""
    inside = [one for one in internals.with_all_parts(model) if isinstance(one, keras.Model)]
    around = [caller for one in inside for caller in _callers.get(one, ())]
    return list({id(one): one for one in (model, *inside, *around)}.values())


def forget_compiled(model: keras.Model) -> None:
    """Let the functions be compiled anew that hold weights of `model` as they were."""
    for one in models_around(model):
        one.train_function = one.test_function = one.predict_function = None


@contextmanager
def following(model: keras.Model, variable: Any, carry: Carry | None) -> Iterator[None]:
    """Let optimisers follow what this context does to a weight of `model`, its value replaced by one of another shape.

    What they hold of a shape like the weight's (momenta, averages) is carried over; what is of another, as in
    Adafactor, begins anew, as does everything without `carry`.
    """
    shape = tuple(variable.shape)
    found = [one for around in models_around(model) for one in _optimizers(getattr(around, "optimizer", None))]
    known = {id(one): (one, internals.key_in(one, variable), internals.slots_in(one, variable)) for one in found}
    yield
    for optimizer, key, slots in known.values():
        fresh = _fresh_slots(optimizer, variable) if slots else {}
        for name, slot in slots.items():
            if name not in fresh or tuple(slot.shape) == tuple(fresh[name].shape):
                continue
            value = tf.convert_to_tensor(fresh[name])
            if carry is not None and tuple(slot.shape) == shape:
                value = arrays.to_native(carry(arrays.to_numpy(tf.convert_to_tensor(slot))))
                if name == internals.AVERAGES:  # new rows begin as they are
                    value += tf.convert_to_tensor(variable) * arrays.to_native(1 - carry(np.ones(shape, np.float32)))
            internals.set_value(slot, value)
        internals.rename_key(optimizer, key, internals.key_in(optimizer, variable))


def _optimizers(optimizer: Any) -> Iterator[Any]:
    """Yield an optimiser, and those that it wraps."""
    if optimizer is not None:
        yield optimizer
        for inner in (getattr(optimizer, "inner_optimizer", None), *getattr(optimizer, "optimizers", ())):
            yield from _optimizers(inner)


def _fresh_slots(optimizer: Any, variable: Any) -> dict[str, Any]:
    """Return what an optimiser of the same kind would hold at first for the variable, by attribute."""
    twin = type(optimizer).from_config(optimizer.get_config())
    twin.build([variable])
    return internals.slots_in(twin, variable)
