"""Parts of models, declared once for all frameworks.

A part names its layers in `setup` and computes with them in `call`, over two namespaces that each backend has under the
same names: `make` makes layers, `ops` computes. A backend binds parts to its own module class, and
`triptych.nn.recording` to one that only records which weights there are.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any, ClassVar

from triptych.errors import ArgumentError
from triptych.names import BACKENDS

FAMILIES, SHARED = "triptych.families.", "triptych.nn."
_NOT_MEMBERS = ("__dict__", "__weakref__", "__module__", "__qualname__", "__annotations__", "__firstlineno__",
                "__static_attributes__", "call")  # fmt: skip


class Part:
    """A part of a model. Its annotated attributes are fields, which `make.block` sets.

    `call` computes with the layers that `setup` names; PyTorch knows it as `forward`, Flax as `__call__`. A method
    calls that of a base class by its name, as in `Base.setup(self)`: it is taken over into classes of the frameworks,
    where `super()` finds nothing.

    Attributes:
        config: the model's config.
        make: makes layers. Its functions take the part itself, and `Axis` objects where widths go.
        ops: computes; see `triptych.nn.functional`.
        index: the number of the layer, in a stack.
        part_names: attribute -> name of its weights, for an attribute that Keras keeps for itself (`layers`).
        takes_wide: whether it may be called with float32 in a model of a half type; Keras would cast that.
        heads: attributes whose weights, where a checkpoint lacks them, are new and no damage.
        arguments: what the constructor takes by place, under the names that transformers gives it.
        whole: whether its layers stay on one device together: see `triptych.placement`.
    """

    config: Any
    make: Any
    ops: Any
    index: int = 0
    part_names: ClassVar[Mapping[str, str]] = {}
    heads: ClassVar[tuple[str, ...]] = ()
    arguments: ClassVar[tuple[str, ...]] = ("config", "layer_idx")
    whole: ClassVar[bool] = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise ArgumentError(
            f"{name} is a declaration, of which each framework has a class of its own.",
            expected="the class of a framework",
            received=f"{type(self).__module__}.{name}",
            remedy=f"from triptych import {name}; in other frameworks TF{name}, Flax{name}",
        )

    def setup(self) -> None:
        """Name the layers."""


class Model(Part):
    """A part that is a public class of each backend.

    Attributes:
        schema_options: the fields that are arguments of the public class too.
        base_model_prefix: the attribute that holds the backbone, where there is a head.
        task: what the head is for, a key of `Family.classes`; "" for a backbone.
        other_tasks: more such keys for which it is the class.
    """

    schema_options: ClassVar[tuple[str, ...]] = ()
    base_model_prefix: ClassVar[str] = ""
    task: ClassVar[str] = ""
    other_tasks: ClassVar[tuple[str, ...]] = ()


def constructed(cls: Any, args: tuple[Any, ...], fields: Mapping[str, Any]) -> tuple[Any, int, dict[str, Any]]:
    """Return config, number and fields from the arguments with which a framework's class of a part is made.

    Raises:
        ArgumentError: too many arguments, one of them twice, or no config.
    """
    names = getattr(cls, "arguments", Part.arguments)
    given = {**dict(zip(names, args, strict=False)), **fields}
    if len(args) > len(names) or set(fields) & set(names[: len(args)]) or "config" not in given:
        raise ArgumentError(
            f"{cls.__name__} cannot be made of these arguments.",
            expected=f"{', '.join(names)}, each once",
            received=f"{len(args)} by place, {sorted(fields)} by name",
        )
    number = given.pop("layer_idx", None)
    return given.pop("config"), given.pop("index", 0 if number is None else number), given


def chain(part: type[Part]) -> Iterator[type[Part]]:
    """Yield `part` and the parts that it derives from, the nearest first."""
    yield from (base for base in part.__mro__ if issubclass(base, Part) and base not in (Part, Model))


def members(part: type[Part], call: str) -> dict[str, Any]:
    """Return what the class statement of `part` defines, its `call` under the name `call`.

    Raises:
        ArgumentError: a method uses `super()`.
    """
    found = {name: value for name, value in vars(part).items() if name not in _NOT_MEMBERS}
    if "call" in vars(part):
        found[call] = vars(part)["call"]
    for name, value in found.items():
        if isinstance(value, FunctionType) and "__class__" in value.__code__.co_freevars:
            raise ArgumentError(
                "A part's methods are taken over into the frameworks' classes, where super() finds nothing.",
                expected="the base class by its name, as in Base.setup(self)",
                received=f"super() in {name} of {part.__module__}.{part.__name__}",
            )
    return found


def all_members(part: type[Part], call: str) -> dict[str, Any]:
    """Return what `part` and all that it derives from define."""
    found: dict[str, Any] = {}
    for base in reversed([*chain(part)]):
        found |= members(base, call)
    return found


def fields(part: type[Part]) -> dict[str, Any]:
    """Return the annotations of the fields that the class statement of `part` adds."""
    found = inspect.get_annotations(part)
    return {name: kind for name, kind in found.items() if not str(kind).startswith("ClassVar")}


def constructor(owner: Any, part: type[Model], takes_more: bool) -> Callable[..., None]:
    """Return the `__init__` of the public class `owner`: (config, the part's options), **kwargs if `takes_more`."""
    kinds = {name: kind for base in reversed([*chain(part)]) for name, kind in fields(base).items()}
    known = inspect.Parameter.POSITIONAL_OR_KEYWORD
    config = inspect.Parameter("config", known, annotation=getattr(owner, "config_class", None) or Any)
    parameters = [inspect.Parameter("self", known), config]
    parameters += [
        inspect.Parameter(name, known, default=getattr(part, name), annotation=kinds.get(name, Any))
        for name in part.schema_options
    ]
    if takes_more:
        parameters.append(inspect.Parameter("kwargs", inspect.Parameter.VAR_KEYWORD))
    signature = inspect.Signature(parameters)

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        values = given.arguments
        super(owner, self).__init__(values["config"], **values.get("kwargs", {}))
        for name in part.schema_options:
            setattr(self, name, values[name])
        self.setup()
        self.post_init()

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


def renaming(base: Any, part: type[Part]) -> dict[str, Any]:
    """Return the members by which a class, derived from `base`, keeps an attribute of `part_names` under that name."""
    names = dict(part.part_names)
    if not names:
        return {}

    def __setattr__(self: Any, name: str, value: Any) -> None:
        base.__setattr__(self, names.get(name, name), value)

    __setattr__.nowrap = True  # type: ignore[attr-defined]  # linen wraps every other function of a module
    return {**{name: _reading(kept) for name, kept in names.items()}, "__setattr__": __setattr__}


def _reading(name: str) -> property:
    # A function of its own, where torch.compile does not look into `operator.attrgetter`.
    return property(lambda self: getattr(self, name))


class Binder:
    """Makes a backend's classes of parts, each once, in the module and under the name where pickle finds it.

    Args:
        framework: "pt", "tf" or "flax".
        base: what the classes derive from.
        call: what the framework calls `call`.
        models: whether models are bound too: in Flax a public class holds a module, elsewhere it is one.
        keeps_layers: whether the framework keeps the attribute `layers` for itself.
    """

    def __init__(self, framework: str, base: type, call: str, models: bool = False, keeps_layers: bool = False) -> None:
        self.package, self.prefix = BACKENDS[framework]
        self.base, self.call, self.models, self.keeps_layers = base, call, models, keeps_layers
        self._bound: dict[type[Part], type] = {}
        self._public: dict[type[Part], type] = {}
        self._homes: dict[str, str] = {}
        self._lock = threading.RLock()

    def class_of(self, kind: type) -> type:
        """Return the framework's class of a part; any other class as it is."""
        if not issubclass(kind, Part):
            return kind
        return self.public(kind) if issubclass(kind, Model) and not self.models else self.bound(kind)

    def bound(self, part: type[Part]) -> type:
        """Return the framework's class of `part`, a subclass of those of its bases."""
        with self._lock:
            if part not in self._bound:
                above = tuple(self.bound(base) for base in part.__bases__ if base in [*chain(part)])
                namespace = {
                    **members(part, self.call),
                    **self._renaming(part),
                    "__annotations__": fields(part),
                    "__module__": self.home(part),
                }
                self._bound[part] = type(self.name_of(part), above or (self.base,), namespace)
            return self._bound[part]

    def declare(
        self,
        cls: type,
        part: type[Model],
        takes_more: bool = False,
        wrap: Callable[[Any], Any] = lambda call: call,
        **own: Any,
    ) -> None:
        """Make `cls` a public class of `part`, which it is a module of: it takes over the members, and `own`; its
        `call` is wrapped.

        What its class statement defines goes first. A class that derives from a public one keeps its constructor.

        Raises:
            ArgumentError: `part` is no `Model`.
        """
        self.publish(cls, part)
        found = {**all_members(part, self.call), **self._renaming(part), **own}
        found[self.call] = wrap(found[self.call])
        if not any(vars(base).get("declared_part") for base in cls.__mro__[1:]):
            found["__init__"] = constructor(cls, part, takes_more)
        stated = {name for name in found if vars(cls).get(name) is not None}
        for name in found.keys() - stated:
            setattr(cls, name, found[name])
        cls.is_its_part = not stated - {"__doc__"}  # type: ignore[attr-defined]

    def publish(self, cls: Any, part: type[Model]) -> None:
        """Make `cls` the public class of `part`, unless there is one already.

        Raises:
            ArgumentError: `part` is no `Model`, or has no `call`.
        """
        if not (isinstance(part, type) and issubclass(part, Model) and hasattr(part, "call")):
            raise ArgumentError(
                f"{cls.__name__} cannot be made of this part.",
                expected="part=, a subclass of triptych.nn.parts.Model with a `call`",
                received=repr(part)[:80],
            )
        cls.declared_part = part
        self._public.setdefault(part, cls)

    def _renaming(self, part: type[Part]) -> dict[str, Any]:
        return {} if self.keeps_layers else renaming(self.base, part)

    def public(self, part: type[Part]) -> type:
        """Return the public class of `part`, whose module is imported if need be.

        Raises:
            ArgumentError: there is none.
        """
        if part not in self._public:
            import_module(self.home(part))
        if part not in self._public:
            raise ArgumentError(
                f"{part.__name__} has no public class.",
                expected=f"a class in {self.home(part)} that is declared with part={part.__name__}",
                received="none",
            )
        return self._public[part]

    def home(self, part: type[Part]) -> str:
        """Return the name of the module that holds the class of `part`."""
        module = part.__module__
        if module.startswith(SHARED):
            return f"{self.package}.make"
        if module.startswith(FAMILIES):
            return f"{self.package}.{module.removeprefix(FAMILIES).partition('.')[0]}"
        return self._homes.get(module, module)

    def name_of(self, part: type[Part]) -> str:
        """Return the name of the class of `part`; that of a model is a module, as Flax calls it."""
        name = self.prefix + part.__name__
        return f"{name.removesuffix('Model')}Module" if issubclass(part, Model) else name

    def parts_of(self, family: ModuleType, module: str) -> Callable[[str], Any]:
        """Return the `__getattr__` of `module`, a module of public classes: it finds the classes of the family's parts,
        those of other families under the names that the family gives them, too.

        `family` is a module of parts, or a package that imports those of its public classes.
        """
        inside = {p.__module__ for p in _parts(family) if f"{p.__module__}.".startswith(f"{family.__name__}.")}
        self._homes |= dict.fromkeys(inside, module)
        own = [p for name in sorted(inside) for p in _parts(sys.modules[name]) if p.__module__ == name]
        names = {self.name_of(part): part for part in own if self.models or not issubclass(part, Model)}
        names |= {
            self.prefix + alias: part
            for alias, part in vars(family).items()
            if isinstance(part, type) and issubclass(part, Part) and not issubclass(part, Model)
        }

        def __getattr__(name: str) -> Any:
            if name not in names:
                raise AttributeError(f"module {module!r} has no attribute {name!r}")
            return self.bound(names[name])

        return __getattr__


def _parts(module: ModuleType) -> list[type[Part]]:
    return [value for value in vars(module).values() if isinstance(value, type) and issubclass(value, Part)]
