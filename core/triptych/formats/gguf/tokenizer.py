"""The tokenizer of a GGUF file, `tokenizer.ggml.*` of its metadata, as the files that a Hugging Face folder has.

Byte-level BPE alone: its vocabulary and merges stand in the metadata, and how it splits text is known by a name. One of
sentencepiece would have to be made anew, from the scores of its tokens.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

_CONTROL, _USER_DEFINED = 3, 4
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_MODERN = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SPLITS: Mapping[str, list[dict[str, Any]]] = {
    "gpt-2": [],
    "smollm": [{"type": "Digits", "individual_digits": True}],
    "llama-bpe": [{"type": "Split", "pattern": {"Regex": _MODERN % "{1,3}"}, "behavior": "Isolated", "invert": False}],
    "qwen2": [{"type": "Split", "pattern": {"Regex": _MODERN % ""}, "behavior": "Isolated", "invert": False}],
}
"""What splits a text before bytes are merged, by its name in llama.cpp."""
_ROLES = {"bos": "bos_token", "eos": "eos_token", "unknown": "unk_token", "padding": "pad_token"}


def tokenizer_kind(metadata: Mapping[str, Any]) -> str:
    """Return which tokenizer a file has, such as "gpt2, smollm"; an empty text for none."""
    names = [str(metadata.get(f"tokenizer.ggml.{key}", ""))[:40] for key in ("model", "pre")]
    return ", ".join(filter(None, names))


def tokenizer_files(metadata: Mapping[str, Any]) -> dict[str, bytes]:
    """Return tokenizer.json, tokenizer_config.json and chat_template.jinja; none of a tokenizer of another
    kind (`tokenizer_kind`), or whose parts do not fit together."""
    split = _SPLITS.get(str(metadata.get("tokenizer.ggml.pre")))
    parts = [metadata.get(f"tokenizer.ggml.{key}") for key in ("tokens", "token_type", "merges")]
    if metadata.get("tokenizer.ggml.model") != "gpt2" or split is None or not _is_whole(*parts):
        return {}
    special = {role: _token(metadata, key) for key, role in _ROLES.items()}
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        **{role: token for role, token in special.items() if token is not None},
    }
    files = {"tokenizer.json": _tokenizer(metadata, split, special["bos_token"]), "tokenizer_config.json": config}
    made = {name: (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode() for name, value in files.items()}
    template = metadata.get("tokenizer.chat_template")
    return {**made, "chat_template.jinja": template.encode()} if isinstance(template, str) else made


def _tokenizer(metadata: Mapping[str, Any], split: list[dict[str, Any]], bos: str | None) -> dict[str, Any]:
    tokens, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"].tolist()
    of_gpt2 = all(one["type"] != "Split" for one in split)  # its own expression splits what `split` leaves
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": of_gpt2}
    processor = None
    if metadata.get("tokenizer.ggml.add_bos_token", metadata["tokenizer.ggml.pre"] == "llama-bpe") and bos is not None:
        processor = _beginning_with(bos, tokens.index(bos))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": number, "content": token, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False, "special": kind == _CONTROL}
            for number, (token, kind) in enumerate(zip(tokens, kinds, strict=True))
            if kind in (_CONTROL, _USER_DEFINED)
        ],
        "normalizer": {"type": "NFC"} if metadata["tokenizer.ggml.pre"] == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*split, byte_level]},
        "post_processor": processor,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "ignore_merges": metadata["tokenizer.ggml.pre"] == "llama-bpe",
            "vocab": {token: number for number, token in enumerate(tokens)},
            "merges": [merge.split(" ") for merge in metadata["tokenizer.ggml.merges"]],
        },
    }  # fmt: skip


def _beginning_with(token: str, number: int) -> dict[str, Any]:
    first = {"SpecialToken": {"id": token, "type_id": 0}}
    return {
        "type": "TemplateProcessing",
        "single": [first, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [first, {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [number], "tokens": [token]}},
    }


def _token(metadata: Mapping[str, Any], key: str) -> str | None:
    number, tokens = metadata.get(f"tokenizer.ggml.{key}_token_id"), metadata["tokenizer.ggml.tokens"]
    return tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None


def _is_whole(tokens: Any, kinds: Any, merges: Any) -> bool:
    """Return whether these are lists of different tokens, of their kinds, and of merges of two tokens."""
    return (
        isinstance(tokens, list)
        and isinstance(kinds, np.ndarray)
        and isinstance(merges, list)
        and len(tokens) == len(kinds) == len(set(tokens))
        and all(merge.count(" ") == 1 for merge in merges)
    )
