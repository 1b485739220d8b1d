"""The models that transformers 4.48.3 wrote and ran, with what it computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parents[1] / "tests/golden"


class Golden:
    """One recorded model: its folders, inputs and expected outputs."""

    stems = {"bert-mlm": "BertForMaskedLM", "bert-cls": "BertForSequenceClassification"}

    def __init__(self, name: str) -> None:
        self.name, self.stem, self.path = name, self.stems[name], GOLDEN / name
        self.expected = dict(np.load(self.path / "expected.npz"))
        self.inputs = {n: self.expected[n] for n in ("input_ids", "attention_mask", "token_type_ids")}
        self.mask = self.expected["attention_mask"]

    @property
    def folder(self) -> Path:
        return self.path / "pt-safetensors"
