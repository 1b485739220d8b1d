"""The generation config of the three base classes: loaded, kept and saved beside config.json."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Mapping
from typing import Any

from triptych.checkpoints.held import HeldFolder
from triptych.checkpoints.holding import given_file
from triptych.config import PretrainedConfig
from triptych.errors import ConfigError
from triptych.files.paths import GENERATION_CONFIG_NAME
from triptych.generation import GenerationConfig
from triptych.generation.config import read_generation_config
from triptych.generation.mixin import Generation
from triptych.generation.parameters import DEFAULTS
from triptych.hub.fetching import HubFolder
from triptych.modeling.operations import Operations

logger = logging.getLogger("triptych")

_TASKS = ("CausalLM", "Seq2SeqLM")


class Generating(Operations, Generation):
    """Part of `ModelBase`: `generation_config`."""

    @property
    def generation_config(self) -> GenerationConfig | None:
        """How the model generates: as `generation_config.json` beside its weights said, else as its config says. None
        of a model that does not generate, unless there was such a file in the local folder that it was loaded from."""
        if "_generation_config" not in self.__dict__ and self._may_generate():
            # Not by setattr: Keras would ask for the old value, which is this.
            self.__dict__["_generation_config"] = GenerationConfig.from_model_config(self.config)
        return self.__dict__.get("_generation_config")

    @generation_config.setter
    def generation_config(self, value: Any) -> None:
        self.__dict__["_generation_config"] = None if value is None else _taken(value)

    @classmethod
    def _may_generate(cls) -> bool:
        """Return whether the class scores the next token, by its declaration or as authors say it."""
        part = cls.declared_part
        declared = part is not None and bool({part.task, *part.other_tasks} & set(_TASKS))
        said = cls._overrides("prepare_inputs_for_generation") or cls._overrides("generate")
        return declared or said or any(base.__name__ == "GenerationMixin" for base in cls.__mro__)

    @classmethod
    def _beside(cls) -> tuple[str, ...]:
        """Return the files that a load of this class fetches with the weights."""
        return (GENERATION_CONFIG_NAME,) if cls._may_generate() else ()

    def _take_generation_config(self, path: Any, given: Any) -> None:
        """Take over the argument `generation_config` of `from_pretrained`, else the file beside the weights.

        Raises:
            ConfigError: what is there is impossible, of a model that may generate.
        """
        if given is not None:
            self.__dict__["_generation_config"] = _taken(copy.deepcopy(given))
        elif isinstance(path, HeldFolder) and (self._beside() or not isinstance(path.place, HubFolder)):
            try:
                file = given_file(path.place)
                values = read_generation_config(path.place if file is None else file.parent, path.subfolder)
                if values is not None:
                    self.__dict__["_generation_config"] = GenerationConfig.from_dict(values)._as_read()
            except ConfigError as cause:
                if self._may_generate():
                    raise ConfigError(f"{GENERATION_CONFIG_NAME} of {path} is refused.", received=str(cause),
                                      remedy="mend the file, or pass generation_config=") from cause  # fmt: skip
                logger.warning("%s of %s is left aside: %s", GENERATION_CONFIG_NAME, path, cause)

    def _generation_beside(self, config: PretrainedConfig) -> dict[str, bytes]:
        """Return the file to save beside `config`, from which fields about generation are moved into it.

        Raises:
            ConfigError: of a generation config that was changed, parameters that cannot be meant or have no effect.
        """
        generation = copy.deepcopy(self.generation_config)
        if generation is None:
            config._warn_of_generation()
            return {}
        generation.validate(strict=generation._was_changed())
        if self._may_generate():
            _move(config._get_non_default_generation_parameters(), config, generation)
        return {GENERATION_CONFIG_NAME: generation.to_json_string().encode()}


def _taken(value: Any) -> GenerationConfig:
    """Return a generation config of transformers itself, or a mapping, as one of triptych; one that is, as it is.

    What transformers 5 has at None where 4 had a default is left at that.
    """
    if isinstance(value, GenerationConfig):
        return value
    values = value if isinstance(value, Mapping) else None
    if values is None and hasattr(value, "to_dict"):
        values = {n: v for n, v in value.to_dict().items() if v is not None or DEFAULTS.get(n) is None}
    if values is None:
        raise ConfigError(
            "generation_config is none.", expected="a GenerationConfig or a mapping", received=repr(value)[:80]
        )
    made: GenerationConfig = GenerationConfig.from_dict(values)
    return made


def _move(misplaced: Mapping[str, Any], config: PretrainedConfig, generation: GenerationConfig) -> None:
    """Let `generation` say what the fields `misplaced` of `config` say, unless it says something of its own."""
    for name, value in misplaced.items():
        if getattr(generation, name) in (None, DEFAULTS[name]):
            setattr(generation, name, value)
        setattr(config, name, None)
    if misplaced:
        warnings.warn(
            f"These fields of the config are about generation, and are saved in {GENERATION_CONFIG_NAME}: "
            f"{dict(misplaced)}.",
            UserWarning,
            stacklevel=4,
        )
