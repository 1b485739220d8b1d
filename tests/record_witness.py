"""Record what transformers 4.48.3 says of the models that transformers 5 no longer has: the untied T5, and pruned ones.

    PYTHONPATH=conformance/support python tests/record_witness.py > tests/golden/witness_4_48.json

Run it in an environment with torch 2.13.0 and transformers 4.48.3, and nothing of triptych. transformers 5 ties T5's
head to the embeddings whatever the config says, and takes the tie back when it reads a file that has both. Pruned
models alone tell the axes of a square matrix apart; T5 and Llama need none: their heads can be wider than the rest.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import torch
import transformers

from witness import weights_of

T5 = dict(vocab_size=31, d_model=12, d_kv=5, d_ff=10, num_layers=2, num_decoder_layers=3, num_heads=3,
          relative_attention_num_buckets=8, tie_word_embeddings=False)  # fmt: skip
BERT = dict(vocab_size=31, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=10,
            max_position_embeddings=16)  # fmt: skip
DISTILBERT = dict(vocab_size=31, dim=12, n_layers=2, n_heads=3, hidden_dim=10, max_position_embeddings=16)
GPT2 = dict(vocab_size=31, n_embd=12, n_layer=2, n_head=3, n_positions=16)
PRUNED = {1: [0, 2]}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("t5", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "relu"}),
    ("t5", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-gelu"}),
    ("t5", "T5ForConditionalGeneration", {**T5, "feed_forward_proj": "gated-silu"}),
    ("bert", "BertModel", {**BERT, "pruned_heads": PRUNED}),
    ("roberta", "RobertaModel", {**BERT, "pruned_heads": PRUNED}),
    ("electra", "ElectraModel", {**BERT, "embedding_size": 8, "pruned_heads": PRUNED}),
    ("distilbert", "DistilBertModel", {**DISTILBERT, "pruned_heads": PRUNED}),
    ("gpt2", "GPT2Model", {**GPT2, "pruned_heads": PRUNED}),
]


def recorded(kind: str, stem: str, config: dict[str, Any]) -> dict[str, Any]:
    model = getattr(transformers, stem)(transformers.AutoConfig.for_model(kind, **config))
    weights = {name: asdict(seen) for name, seen in weights_of(model).items()}
    return {"model_type": kind, "stem": stem, "config": config, "weights": weights}


if __name__ == "__main__":
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}"
    print(json.dumps({"made_with": versions, "cases": [recorded(*case) for case in CASES]}))
