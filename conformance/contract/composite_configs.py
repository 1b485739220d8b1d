"""Configs of an author for the probes: of parts, and one that needs arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from probing import messages
from triptych import (
    PretrainedConfig,
)

TINY: dict[str, Any] = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 16, "bos_token_id": 1,
        "eos_token_id": 2}  # fmt: skip


class TextConfig(PretrainedConfig):
    model_type = "probe_text"
    base_config_key = "text_config"

    def __init__(self, width: int = 4, depth: int = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.width, self.depth = width, depth


class SoundConfig(PretrainedConfig):
    model_type = "probe_sound"

    def __init__(self, rate: int = 8, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rate = rate


class BothConfig(PretrainedConfig):
    model_type = "probe_both"
    sub_configs = {"text_config": TextConfig, "sound_config": SoundConfig}

    def __init__(self, text_config: Any = None, sound_config: Any = None, **kwargs: Any) -> None:
        self.text_config = text_config if isinstance(text_config, TextConfig) else TextConfig(**(text_config or {}))
        self.sound_config = SoundConfig(**(sound_config or {}))
        super().__init__(**kwargs)


class NeedyConfig(PretrainedConfig):
    model_type = "probe_needy"
    has_no_defaults_at_init = True

    def __init__(self, *, part: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.part = TextConfig(**part)


def written(config: Any, folder: Path) -> dict[str, Any]:
    config.save_pretrained(folder)
    values: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return values


def reads(folder: Path, values: dict[str, Any]) -> Path:
    (folder / "config.json").write_text(json.dumps(values))
    return folder


@contextmanager
def logged(words: str) -> Iterator[None]:
    """Fail unless a warning with `words` in it is logged."""
    with messages() as found:
        yield
    assert any(words in message for message in found), found
