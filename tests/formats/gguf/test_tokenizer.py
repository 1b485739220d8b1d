"""The tokenizer in a GGUF file's metadata becomes the files of a folder, which make the same tokens."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, pre_tokenizers

from gguf_tokenizer import build_tokenizer, smollm2_path
from triptych.formats.gguf.header import read_header
from triptych.formats.gguf.tokenizer import tokenizer_files, tokenizer_kind

SAMPLE = "Hello, WE'LL see 12345 été\n\n  def f(x):\t你好 🤖<|im_end|> e\u0301"


def metadata(pre: str, **changes: Any) -> dict[str, Any]:
    """Return the metadata of a tokenizer of all bytes, and of "<s>" and "</s>"."""
    tokens = ["<s>", "</s>", "<tool>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ab"]
    kinds = np.array([3, 3, 4, *[1] * (len(tokens) - 3)], np.int32)
    values = {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": kinds, "merges": ["a b"],
              "bos_token_id": 0, "eos_token_id": 1, **changes}  # fmt: skip
    return {f"tokenizer.ggml.{key}": value for key, value in values.items() if value is not None}


def made(values: dict[str, Any]) -> Tokenizer:
    return Tokenizer.from_buffer(tokenizer_files(values)["tokenizer.json"])


def test_a_real_one() -> None:
    values = read_header(smollm2_path()).metadata
    files = tokenizer_files(values)
    ours, expected = Tokenizer.from_buffer(files["tokenizer.json"]), build_tokenizer(values)
    assert ours.encode(SAMPLE).ids == expected.encode(SAMPLE).ids
    assert ours.decode(ours.encode(SAMPLE).ids, skip_special_tokens=False) == SAMPLE
    assert ours.decode(ours.encode("a<|im_end|>").ids) == "a"
    config = json.loads(files["tokenizer_config.json"])
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    assert files["chat_template.jinja"].decode() == values["tokenizer.chat_template"]


@pytest.mark.parametrize(
    ("pre", "expected"),
    [
        ("gpt-2", ["Hi", "Ġ12345", "ĠWE", "'", "LL", "Ċ", "Ċ", "!"]),
        ("smollm", ["Hi", "Ġ", "1", "2", "3", "4", "5", "ĠWE", "'", "LL", "Ċ", "Ċ", "!"]),
        ("llama-bpe", ["Hi", "Ġ", "123", "45", "ĠWE", "'LL", "ĊĊ", "!"]),
        ("qwen2", ["Hi", "Ġ", "1", "2", "3", "4", "5", "ĠWE", "'LL", "ĊĊ", "!"]),
    ],
)
def test_how_a_text_is_split(pre: str, expected: list[str]) -> None:
    parts = made(metadata(pre)).pre_tokenizer.pre_tokenize_str("Hi 12345 WE'LL\n\n!")
    assert [part for part, _ in parts] == expected


def test_tokens_of_each_kind() -> None:
    tokenizer = made(metadata("gpt-2"))
    ids = tokenizer.encode("ab<tool></s>").ids
    assert [tokenizer.id_to_token(one) for one in ids] == ["ab", "<tool>", "</s>"]
    assert tokenizer.decode(ids) == "ab<tool>"


@pytest.mark.parametrize(
    ("pre", "says", "begins"),
    [("gpt-2", None, False), ("gpt-2", True, True), ("llama-bpe", None, True), ("llama-bpe", False, False)],
)
def test_the_token_that_begins_a_text(pre: str, says: bool | None, begins: bool) -> None:
    assert (made(metadata(pre, add_bos_token=says)).encode("a").ids[0] == 0) == begins


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "llama"}, {"pre": "other"}, {"pre": None}, {"merges": None}, {"merges": ["a b c"]},
        {"tokens": ["a", "a"], "token_type": np.array([1, 1])}, {"token_type": np.array([1])}, {"tokens": 3},
    ],
    ids=str,
)  # fmt: skip
def test_of_others_there_are_no_files(changes: dict[str, Any]) -> None:
    values = metadata(**{"pre": "gpt-2", **changes})
    assert tokenizer_files(values) == {}
    assert tokenizer_kind(values).startswith(str(changes.get("model", "gpt2")))


def test_there_may_be_none() -> None:
    assert tokenizer_files({}) == {} and tokenizer_kind({}) == ""
    assert "chat_template.jinja" not in tokenizer_files(metadata("gpt-2"))
