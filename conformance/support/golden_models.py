"""The models that transformers 4.48.3 wrote and ran, with what it computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[2] / "tests/golden"
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "decoder_input_ids")


class Golden:
    """One recorded model: its folders, inputs and expected outputs."""

    stems = {
        "bert-mlm": "BertForMaskedLM",
        "bert-cls": "BertForSequenceClassification",
        "gpt2-lm": "GPT2LMHeadModel",
        "t5-tied": "T5ForConditionalGeneration",
        "t5-v11": "T5ForConditionalGeneration",
        "llama-gqa": "LlamaForCausalLM",
    }
    with_head_mask = ("bert-mlm", "bert-cls", "gpt2-lm")
    """Those for which masked and pruned heads were recorded."""
    of_bert = ("bert-mlm", "bert-cls")

    def __init__(self, name: str) -> None:
        self.name, self.stem, self.path = name, self.stems[name], GOLDEN / name
        with np.load(self.path / "expected.npz") as recorded:
            self.expected = dict(recorded)
        self.inputs = {name: self.expected[name] for name in INPUTS if name in self.expected}
        self.mask = self.expected["attention_mask"]
        self.vocab_size = int(self.expected["out.logits"].shape[-1]) if name != "bert-cls" else 99

    @property
    def folder(self) -> Path:
        return self.path / "pt-safetensors"
