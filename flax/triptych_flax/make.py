"""The layers of which declarations make models, and the linen modules that are made of declared parts.

Widths are `triptych.weights.schema.Axis` objects, or numbers.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from triptych.errors import ArgumentError
from triptych.nn import functional as fn
from triptych.nn import seeding
from triptych.nn.parts import Binder, Model
from triptych_flax import ops, packed


class FlaxConv1D(nn.Module):
    """GPT-2's projection, whose weight is stored as [in, out]."""

    width: int
    units: int
    initializer: Any
    dtype: Any

    @nn.compact
    def __call__(self, x: Any) -> Any:
        if (one := packed.of(self)) is not None:
            made = packed.project(self, one, jnp.asarray(x, self.dtype))
            return made + jnp.asarray(self.get_variable("params", "bias"), self.dtype)
        weight = self.param("weight", self.initializer, (self.width, self.units))
        bias = self.param("bias", nn.initializers.zeros, (self.units,))
        return jnp.asarray(x, self.dtype) @ jnp.asarray(weight, self.dtype) + jnp.asarray(bias, self.dtype)


class FlaxEmbed(nn.Embed):
    """A table of vectors, which may be packed."""

    def setup(self) -> None:
        self.held = packed.of(self)
        if self.held is None:
            super().setup()

    def __call__(self, inputs: Any) -> Any:
        if self.held is not None:
            return packed.vectors(self, self.held, inputs, self.dtype)
        return super().__call__(inputs)

    @property
    def score(self) -> Any:
        """What returns the products with each vector of a packed table; None if it is not packed."""
        held = self.held
        return None if held is None else lambda hidden: packed.project(self, held, hidden)


class FlaxRMSNorm(nn.Module):
    """See `triptych.nn.functional.rms_norm`."""

    width: int
    epsilon: float
    dtype: Any = None

    @nn.compact
    def __call__(self, x: Any) -> Any:
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        return fn.rms_norm(ops, x, scale, self.epsilon, self.dtype)


_calm: ContextVar[bool] = ContextVar("calm", default=False)
_stream: ContextVar[seeding.Stream | None] = ContextVar("stream", default=None)


class FlaxDropout(nn.Module):
    """Drops values wherever the call brought random numbers or a seed for it (see `triptych.modeling.seeding`), unless
    it is within one that is `deterministic`."""

    rate: float

    @nn.compact
    def __call__(self, x: Any) -> Any:
        if self.is_seeded():
            return self._dropped(x, 0)
        return nn.Dropout(self.rate, deterministic=not self.is_on())(x)

    def again(self, x: Any) -> Any:
        """See `triptych.nn.seeding.again`."""
        return self._dropped(x, 1) if self.is_seeded() else self(x)

    def _dropped(self, x: Any, use: int) -> Any:
        place = seeding.place_of(".".join(self.path))
        return seeding.dropped(ops, x, self.rate, _stream.get(), place, use)  # type: ignore[arg-type]

    def is_seeded(self) -> bool:
        """Return whether this call drops values, and by a seed."""
        return _stream.get() is not None and self.is_on()

    def is_on(self) -> bool:
        """Return whether this call drops values."""
        return drops(self)


def drops(module: nn.Module) -> bool:
    """Return whether the call that `module` is in drops values."""
    return not _calm.get() and (module.has_rng("dropout") or _stream.get() is not None)


def stream() -> seeding.Stream | None:
    """Return what the dropout of the call that is made draws from; None if that is Flax's random numbers."""
    return _stream.get()


@contextmanager
def drawing_from(stream: seeding.Stream | None) -> Iterator[None]:
    """Let dropout draw from `stream` in this context."""
    before = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(before)


class FlaxSequence(nn.Module):
    """Modules called "0", "1", ...: pairs of a class and its fields."""

    parts: tuple[Any, ...]

    def setup(self) -> None:
        for number, (cls, fields) in enumerate(self.parts):
            setattr(self, str(number), cls(**dict(fields)))

    def __iter__(self) -> Any:
        return iter([getattr(self, str(number)) for number in range(len(self.parts))])


class FlaxBlock(nn.Module):
    """A part of a built-in model. Subclasses declare their layers in `setup`."""

    config: Any
    dtype: Any = jnp.float32
    index: int = 0
    gradient_checkpointing: bool = False
    ops = ops
    make = sys.modules[__name__]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        call = vars(cls).get("__call__")
        if call is not None and "deterministic" not in inspect.signature(call).parameters:
            cls.__call__ = _taking_old_arguments(call)  # type: ignore[method-assign]
        super().__init_subclass__(**kwargs)


def _taking_old_arguments(call: Any) -> Any:
    """Let the `__call__` of a part take what those of transformers 4 took beside: `deterministic` and `init_cache`.

    Without `deterministic`, or where it is False, dropout is on if the call brought random numbers for it.

    Raises:
        ArgumentError: `init_cache=True`; caches are no variables of a module here.
    """

    @wraps(call)
    def __call__(self: Any, *inputs: Any, deterministic: bool = False, init_cache: bool = False, **options: Any) -> Any:
        if init_cache:
            raise ArgumentError("A module makes no cache.", expected="init_cache=False", received="True",
                                remedy="call init_cache(batch_size, max_length) of the model")  # fmt: skip
        before = _calm.set(deterministic or _calm.get())
        try:
            return call(self, *inputs, **options)
        finally:
            _calm.reset(before)

    return __call__


binder = Binder("flax", FlaxBlock, "__call__", models=True)


def declare(cls: Any, part: type[Model]) -> None:
    """Make `cls`, a subclass of `FlaxPreTrainedModel`, a public class of `part`; what it states itself goes first."""
    binder.publish(cls, part)
    call = declared_call(part.call, cls.call_order)  # type: ignore[attr-defined]
    found = {"module_class": binder.bound(part), "__call__": call, "__doc__": part.__doc__}
    if part.base_model_prefix:
        found["base_model_prefix"] = part.base_model_prefix
    for name, value in {**found, "schema_options": part.schema_options}.items():
        if vars(cls).get(name) is None:
            setattr(cls, name, value)


def declared_call(function: Any, order: Sequence[str] = ()) -> Any:
    """Return a model's `__call__` with the arguments of `function`, which its module computes, and Flax's own.

    Positional arguments are in the `order` in which transformers 4 had them; those that it did not have come after.
    """
    own = inspect.signature(function).parameters
    names = list(dict.fromkeys([*order, *list(own)[1:], *_FLAX_ARGUMENTS]))

    def call(self: Any, *inputs: Any, **options: Any) -> Any:
        given = dict(zip(names, inputs, strict=False))
        twice = sorted(given.keys() & options.keys())
        if twice or len(inputs) > len(names):
            raise ArgumentError(
                f"{type(self).__name__} is called with an argument too many.",
                expected=", ".join(names),
                received=f"{', '.join(twice)} twice" if twice else f"{len(inputs)} positional arguments",
            )
        options |= {name: value for name, value in given.items() if name in own or value is not None}
        return self.run_module(**options)

    parameters = {**own, **{name: _positional(name, default) for name, default in _FLAX_ARGUMENTS.items()}}
    shown = ["self", *(name for name in names if name in parameters)]
    call.__signature__ = inspect.Signature([parameters[name] for name in shown])  # type: ignore[attr-defined]
    call.__name__, call.__doc__ = "__call__", function.__doc__
    return call


_FLAX_ARGUMENTS: dict[str, Any] = {"params": None, "dropout_rng": None, "train": False}


def _positional(name: str, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=Any)


def constructor_signature() -> inspect.Signature:
    """Return how a class with a `module_class` is called: as those of transformers 4 are."""
    defaults = {"input_shape": (1, 1), "seed": 0, "dtype": jnp.float32, "_do_init": True}
    parameters = [_positional("self"), _positional("config"), *(_positional(n, d) for n, d in defaults.items())]
    return inspect.Signature([*parameters, inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD)])


def _normal(owner: Any, std: float | None) -> Any:
    return nn.initializers.normal(owner.config.initializer_range if std is None else std)


def dense(owner: Any, width: Any, units: Any, bias: bool = True, std: float | None = None, wide: bool = False) -> Any:
    """Return a projection from `width` to `units`.

    `wide`: in a model of float16 it is computed in float32, and its result stays so.
    """
    dtype = jnp.float32 if wide and owner.dtype == jnp.float16 else owner.dtype
    return nn.Dense(int(units), use_bias=bias, dtype=dtype, kernel_init=_normal(owner, std))


def conv1d(owner: Any, width: Any, units: Any, std: float | None = None) -> Any:
    """Return GPT-2's projection from `width` to `units`."""
    return FlaxConv1D(int(width), int(units), _normal(owner, std), owner.dtype)


def embedding(
    owner: Any, rows: Any, width: Any, std: float | None = None, padding: int | None = None, aliases: Iterable[str] = ()
) -> Any:
    """Return a table of `rows` vectors; Flax has no `padding`: `triptych.nn.functional.embedded` sees to its gradient.

    `aliases` are other names under which files hold the table.
    """
    return FlaxEmbed(int(rows), int(width), dtype=owner.dtype, embedding_init=_normal(owner, std))


def layer_norm(owner: Any, width: Any, epsilon: float, affine: bool = True) -> Any:
    """Return a layer norm over the last axis, with a scale and a shift if `affine`."""
    return nn.LayerNorm(epsilon, dtype=owner.dtype, use_bias=affine, use_scale=affine, use_fast_variance=False)


def rms_norm(owner: Any, width: Any, epsilon: float) -> Any:
    """Return a norm without shift over the last axis."""
    return FlaxRMSNorm(int(width), epsilon, owner.dtype)


def dropout(owner: Any, rate: float) -> Any:
    """Return a layer that drops values while training."""
    return FlaxDropout(rate)


def vector(owner: Any, name: str, length: Any) -> Any:
    """Return a parameter `name` of zeros."""
    return owner.param(name, nn.initializers.zeros, (int(length),))


def numbers(owner: Any, name: str, count: int) -> Any:
    """Return None: Flax has no need of buffers that are in no file."""
    return None


def vocab_head(owner: Any, width: Any, units: Any, bias: str | None = None, std: float | None = None) -> Any:
    """Return the projection to the vocabulary; None if it is tied, and computed with the embeddings' matrix.

    `bias` names the owner's vector that is its bias while it is tied.
    """
    return None if owner.config.tie_word_embeddings else dense(owner, width, units, bool(bias), std)


class FlaxVocabProjector(FlaxBlock):
    """A projection to the vocabulary with a bias, called with the embeddings, whose matrix it uses if it is tied."""

    width: int = 0
    units: int = 0

    def setup(self) -> None:
        self.bias = vector(self, "bias", self.units)
        self.held = packed.of(self)
        if not self.config.tie_word_embeddings and self.held is None:
            self.kernel = self.param("kernel", _normal(self, None), (self.width, self.units))

    def __call__(self, hidden: Any, embeddings: Any) -> Any:
        bias = jnp.asarray(self.bias, self.dtype)
        if self.config.tie_word_embeddings:
            return fn.scores_of_vocabulary(ops, None, embeddings, hidden) + bias
        if self.held is not None:
            return packed.project(self, self.held, hidden) + bias
        return hidden @ jnp.asarray(self.kernel, self.dtype) + bias


def vocab_projector(owner: Any, width: Any, units: Any) -> Any:
    """Return a projection to the vocabulary with a bias of its own."""
    return block(owner, FlaxVocabProjector, width=int(width), units=int(units))


def block(owner: Any, kind: type, **fields: Any) -> Any:
    """Return a module of the owner's config: of a part, or of a class of linen like it."""
    cls = binder.class_of(kind)
    return cls(owner.config, owner.dtype, **_inherited(owner, cls), **fields)


def nested(owner: Any, member: Any, made: Any = None) -> Any:
    """Return the model `made`, or one of a config of its own: of `member`, a `triptych.families.Member`."""
    cls = binder.class_of(member.part)
    return cls(member.config, owner.dtype, **_inherited(owner, cls)) if made is None else made


def _inherited(owner: Any, cls: Any) -> dict[str, Any]:
    """Return the fields that a part has from its owner, beside config and dtype, where `cls` knows them."""
    name = "gradient_checkpointing"
    return {name: getattr(owner, name, False)} if name in cls.__dataclass_fields__ else {}


def prune_attention(owner: Any, inner: Iterable[Any], outer: Any, heads: Iterable[int]) -> int:
    """Refuse to prune one attention.

    Raises:
        ArgumentError: always.
    """
    raise ArgumentError(
        "An attention alone cannot be pruned in Flax.",
        expected="its model",
        received=type(owner).__name__,
        remedy="call model.prune_heads, with the numbers of layers and heads",
    )


def stacked(owner: Any, kind: type, count: int, **fields: Any) -> Any:
    """Return `count` blocks of one kind, numbered by `index`."""
    return _sequence(owner, [kind] * count, [{**fields, "index": index} for index in range(count)])


def listed(owner: Any, kinds: Iterable[type], **fields: Any) -> Any:
    """Return a list of blocks of several kinds."""
    kinds = list(kinds)
    return _sequence(owner, kinds, [fields] * len(kinds))


def _sequence(owner: Any, kinds: list[type], fields: list[dict[str, Any]]) -> FlaxSequence:
    shared = {"config": owner.config, "dtype": owner.dtype}
    classes = [binder.class_of(kind) for kind in kinds]
    return FlaxSequence(
        tuple((c, tuple({**shared, **_inherited(owner, c), **f}.items())) for c, f in zip(classes, fields, strict=True))
    )
