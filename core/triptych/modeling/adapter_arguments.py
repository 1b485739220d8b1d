"""A load of a folder, or a repository, that holds an adapter alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.adapters.config import ADAPTER_CONFIG_NAME
from triptych.adapters.folder import base_of, fetch_adapter, is_adapter, local_names, read_lora_config
from triptych.errors import ArgumentError
from triptych.files.paths import local_folder
from triptych.hub.fetching import HubFolder, look_up, names_in, take_hub_arguments
from triptych.modeling.acting_adapters import DEFAULT

logger = logging.getLogger("triptych")


@dataclass
class AdapterArguments:
    """The arguments of a load that are about an adapter; and, where the path is that of one, what was found there.

    - `base`: of which model it is an adapter; None where the path holds none, or a model beside it.
    """

    name: str | None
    options: Mapping[str, Any]
    place: Any = None
    subfolder: str = ""
    base: str | None = None

    @classmethod
    def taken_from(cls, kwargs: dict[str, Any]) -> AdapterArguments:
        """Remove `adapter_name` and `adapter_kwargs` from `kwargs`, and return them.

        Raises:
            ArgumentError: one of a wrong type.
        """
        name, options = kwargs.pop("adapter_name", None), kwargs.pop("adapter_kwargs", None) or {}
        if not (name is None or isinstance(name, str)) or not isinstance(options, Mapping):
            raise ArgumentError("These are no arguments of an adapter.", expected="adapter_name, a text, and "
                                "adapter_kwargs, a mapping", received=repr((name, options))[:80])  # fmt: skip
        return cls(name, options)

    def seen(self, path: Any, subfolder: str, hub: Mapping[str, Any]) -> Any:
        """Return `path`, or what was looked up of it, and note whether it is that of an adapter.

        Raises:
            ArgumentError: it is not, and arguments of one were given; or its config does not name a model. HubError and
            its subclasses, ConfigError.
        """
        own = dict(self.options)
        below = own.pop("subfolder", subfolder)
        options = {**hub, **take_hub_arguments(own)}
        if own:
            raise ArgumentError("adapter_kwargs holds what is no argument of a look-up.", received=", ".join(own))
        found = look_up(path, below, options if self.options else hub)
        is_there = isinstance(found, (str, os.PathLike)) and os.path.isdir(found)
        names: Collection[str] = ()
        if isinstance(found, HubFolder):
            names = names_in(found, below)
        elif is_there and os.path.isdir(os.path.join(found, below)):
            names = local_names(Path(found, below))
        if is_adapter(names):
            self.place, self.subfolder = fetch_adapter(found, below, options), below
            self.base = base_of(self.place, below)
        elif self.options or self.name not in (None, DEFAULT):
            raise ArgumentError(
                f"{path} holds no adapter that adapter_name and adapter_kwargs could be about.",
                expected="a folder with adapter_config.json, and no weights of a model",
                received=str(path),
                remedy="load the model, and then the adapter: model.load_adapter(path, adapter_name)",
            )
        elif ADAPTER_CONFIG_NAME in names:
            logger.warning("%s holds an adapter too, which is left aside: model.load_adapter(path) loads it", path)
        return found

    def load(self, cls: Any, *inputs: Any, **arguments: Any) -> Any:
        """Return what `cls.from_pretrained` returns of the model that the adapter belongs to, with the adapter in it.

        A `revision` is that of the adapter; what its config says of the model's is followed.
        """
        arguments.pop("revision", None)
        if said := read_lora_config(local_folder(self.place, self.subfolder)).others.get("revision"):
            arguments["revision"] = said
        loaded = cls.from_pretrained(self.base, *inputs, **arguments)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        model.load_adapter(self.place, self.name, adapter_kwargs={"subfolder": self.subfolder})
        return loaded
