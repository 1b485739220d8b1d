"""Which weights a model has: what its class declares, and what its module holds."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping, Sequence
from operator import attrgetter
from typing import Any, ClassVar

from triptych.config import PretrainedConfig, taken_over
from triptych.config.foreign import class_of, is_foreign
from triptych.errors import ArgumentError
from triptych.families import RecordedSchema, declared_schema, recorded_of
from triptych.families import is_foreign as is_registered
from triptych.modeling.derived import derived_schema, held_schema
from triptych.modeling.hooks import Hooks
from triptych.modeling.quantised import refuse_new, refuse_quantised
from triptych.nn.parts import Model
from triptych.weights.packing import Packed, applied
from triptych.weights.schema import Schema


class Schemas(Hooks):
    """Part of `ModelBase`: the schema of a class and of a model."""

    config_class: ClassVar[type[PretrainedConfig] | None] = None
    framework: ClassVar[str] = ""
    class_prefix: ClassVar[str] = ""
    schema_options: ClassVar[Sequence[str]] = ()
    """Arguments of the constructor, kept as attributes, on which the weights depend."""
    declared_part: ClassVar[type[Model] | None] = None
    """The declaration of which the class is made, or a class that it derives from."""
    config: Any
    _packed: Mapping[str, Packed] = {}
    """The weights that are packed, by name."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take the `config_class` from an annotation `config: XConfig`, where the class says no other; and take over
        one of transformers itself."""
        super().__init_subclass__(**kwargs)
        if "config_class" not in vars(cls) and (annotated := _annotated_config(cls)) is not None:
            cls.config_class = annotated
        if is_foreign(cls.config_class):
            cls.config_class = class_of(cls.config_class)

    @classmethod
    def _stem(cls) -> str:
        """Return the class's name without the framework's prefix, as `config.architectures` lists it."""
        return cls.__name__.removeprefix(cls.class_prefix)

    @classmethod
    def declare_schema(cls, config: PretrainedConfig, **options: Any) -> Schema | None:
        """Return the weights that a model of `config` has; None to have them derived from the live module.

        `options` are those arguments of the constructor that `schema_options` names.

        Built-in families declare theirs in `triptych.families`. A class of your own may override this; named axes let
        it be pruned, and loaded and changed as files, without building it.
        """
        return next((s for c in cls.__mro__ if (s := _declared(c, config, options)) is not None), None)

    @classmethod
    def takes_decoder_ids(cls) -> bool:
        """Return whether a call of the model takes ids for a decoder, beside those for an encoder."""
        return "decoder_input_ids" in cls._call_arguments()

    @property
    def schema(self) -> Schema:
        """The weights of this model: those that the live module holds, with what its declaration knows of them.

        A class whose schema was written by hand has just that; saves and loads hold it against the module.
        """
        declared = self.declared_schema
        if declared is None:
            return self._derive_schema()
        if not self._is_of_a_part(self.config) or (self._is_its_part() and self._modules_stay):
            return declared
        return held_schema(self, declared)

    @property
    def declared_schema(self) -> Schema | None:
        """The declared weights of this model, or None."""
        options = {name: getattr(self, name) for name in self.schema_options}
        declared = type(self).declare_schema(self.config, **options)
        return None if declared is None else applied(declared, self._packed)

    def num_parameters(self, only_trainable: bool = False, exclude_embeddings: bool = False) -> int:
        """Return the number of elements of the parameters; a tied weight counts once.

        Args:
            only_trainable: leave out frozen parameters.
            exclude_embeddings: leave out every embedding matrix, that of positions and token types too.
        """
        return self.schema.num_parameters(exclude_embeddings, self._is_trainable if only_trainable else None)

    @classmethod
    def _declared_for(cls, config: PretrainedConfig, arguments: Mapping[str, Any]) -> Schema | None:
        """Return the schema of a model of `config` and of these arguments of the constructor, if it is known without
        the model: None where only the module can say which weights it holds."""
        options = {name: arguments[name] for name in cls.schema_options if name in arguments}
        declared = cls.declare_schema(config, **options)
        return None if cls._is_of_a_part(config) and not cls._is_its_part() else declared

    @classmethod
    def _derive_schema_for(cls, config: PretrainedConfig, **arguments: Any) -> Schema:
        """Return the schema that a live module would show: of `config`, and of these arguments of the constructor."""
        return cls._look_at(config, arguments, derived_schema)

    @classmethod
    def _is_of_a_part(cls, config: PretrainedConfig) -> bool:
        """Return whether the schema is recorded from a part; a subclass may hold other weights beside or instead."""
        own = getattr(cls.declare_schema, "__func__", None) is Schemas.declare_schema.__func__  # type: ignore[attr-defined]
        return own and any(_recorded(base, config) for base in cls.__mro__)

    @classmethod
    def _is_its_part(cls) -> bool:
        """Return whether a new model holds just the weights of its part: tests show that the two agree.

        A subclass may not, nor a class whose own statement overrides what the part says.
        """
        return bool(vars(cls).get("is_its_part"))

    def _derive_schema(self) -> Schema:
        """Return the schema that the live module shows."""
        return derived_schema(self)

    @classmethod
    def _own_config(cls, config: Any) -> Any:
        """Return `config`, or what triptych makes of one of transformers itself; raise as `_check_config` does."""
        config = taken_over(config, cls.config_class)
        cls._check_config(config)
        refuse_new(config)
        return config

    @classmethod
    def _constructor_arguments(cls) -> Collection[str]:
        """Return the names of the arguments of the constructor."""
        return inspect.signature(cls).parameters

    @classmethod
    def _check_config(cls, config: object) -> None:
        """Raise unless a model of this class can be built of `config` as it is now: fields may be set at any time."""
        declared = cls.declared_part is not None  # of fields that only its own config class has, for sure
        wanted = (cls.config_class if declared else None) or PretrainedConfig
        if not isinstance(config, wanted):
            raise ArgumentError(
                f"{cls.__name__} cannot be made of this config.",
                expected=f"a {wanted.__name__}",
                received=type(config).__name__,
                remedy="load the config with the class's own config class",
            )
        config._validate_whole()
        refuse_quantised(config)


def _annotated_config(cls: type) -> Any:
    """Return the config class with which the statement of `cls` annotates `config`, or None."""
    said = inspect.get_annotations(cls).get("config")
    if isinstance(said, str):
        try:
            said = attrgetter(said)(sys.modules[cls.__module__])
        except (AttributeError, KeyError):
            return None
    is_config = isinstance(said, type) and (issubclass(said, PretrainedConfig) or is_foreign(said))
    return said if is_config else None


def _declared(cls: type, config: PretrainedConfig, options: Mapping[str, Any]) -> Schema | None:
    """Return the schema that `cls` itself has: of the part that it is made of, or by its name in a registered family.

    A subclass inherits it by the MRO. A class that only has the name of a built-in one is made of no part.
    """
    if recorded := _recorded(cls, config):
        return recorded(config, cls.declared_part.__name__, **options)  # type: ignore[attr-defined]
    if issubclass(cls, Schemas) and is_registered(config.model_type):
        return declared_schema(config, cls._stem(), **options)
    return None


def _recorded(cls: type, config: PretrainedConfig) -> RecordedSchema | None:
    """Return what records the schema of the part that `cls` itself states, or None."""
    part: type[Model] | None = vars(cls).get("declared_part")
    home = getattr(cls, "config_class", None)
    return None if part is None or home is None else recorded_of(config, part, home)
