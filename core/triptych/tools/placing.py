"""Where the weights of a checkpoint would go, from its config alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from triptych.config import CONFIG_NAME
from triptych.errors import ArgumentError, ConfigError, MissingFileError
from triptych.files.json import read_config
from triptych.hub.fetching import fetch_config
from triptych.placement.memory import CPU, Limits, memory_of_the_cpu, parse_max_memory
from triptych.placement.planning import Plan, plan_placement
from triptych.tensors.dtypes import parse_param_dtype
from triptych.tools.source import file_config, stem_of


def plan(
    model: str, max_memory: str | None = None, strategy: str = "auto", dtype: str | None = None, revision: str = "main"
) -> Plan:
    """Plan where the weights of `model` go.

    Args:
        model: a folder, a config.json, or the name of a repository, of which the config alone is fetched.
        max_memory: such as "cpu=4GB,0=8GB"; by default what is free of the CPU's.
        strategy: as `device_map`.
        dtype: of the weights; "auto" and None are that of the config, else float32.

    Raises:
        ArgumentError; ConfigError: no family, or values that it refuses. MissingFileError. HubError.
    """
    values = _config(model, revision)
    config = file_config(values)
    if config is None:
        raise ConfigError("Only models of built-in and registered families are planned.",
                          expected="their model_type", received=repr(values.get("model_type"))[:80])  # fmt: skip
    asked = config.dtype if dtype in (None, "auto") else dtype
    kind = np.dtype(np.float32) if asked is None else parse_param_dtype(asked)
    return plan_placement(config, stem_of(config, values.get("architectures")), _limits(max_memory), strategy, kind)


def _config(model: str, revision: str) -> dict[str, Any]:
    path = Path(model)
    if path.is_file():
        return read_config(path)
    folder = Path(fetch_config(model, "", {"revision": revision}))
    if not (folder / CONFIG_NAME).is_file():
        raise MissingFileError(f"{model} has no {CONFIG_NAME}.", expected="a folder, a config.json, or a repository")
    return read_config(folder / CONFIG_NAME)


def _limits(text: str | None) -> Limits:
    """Return the limits that a text such as "cpu=4GB,0=8GB" says."""
    if text is None:
        return parse_max_memory({CPU: memory_of_the_cpu()})
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if not pairs or any(not (name.strip() and equals) for name, equals, _ in pairs):
        raise ArgumentError("This is no memory.", expected="such as cpu=4GB,0=8GB", received=text[:80])
    sizes: Mapping[Any, Any] = {_device(name.strip()): _size(size.strip()) for name, _, size in pairs}
    return parse_max_memory(sizes)


def _device(name: str) -> int | str:
    return int(name) if name.isdigit() else name


def _size(text: str) -> int | str:
    return int(text) if text.isdigit() else text
