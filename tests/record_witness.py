"""Record what transformers 4.48.3 says of the models of which transformers 5 says something else: the untied T5.

    PYTHONPATH=conformance python tests/record_witness.py > tests/golden/witness_4_48.json

Run it in an environment with torch 2.13.0 and transformers 4.48.3, and nothing of triptych. transformers 5 ties T5's
head to the embeddings whatever the config says, and takes the tie back when it reads a file that has both.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import torch
import transformers
from witness import weights_of

SMALL = dict(vocab_size=31, d_model=12, d_kv=5, d_ff=10, num_layers=2, num_decoder_layers=3, num_heads=3,
             relative_attention_num_buckets=8, tie_word_embeddings=False)  # fmt: skip
CASES = [
    ("T5ForConditionalGeneration", {**SMALL, "feed_forward_proj": kind}) for kind in ("relu", "gated-gelu", "gated-silu")
]


def recorded(stem: str, config: dict[str, object]) -> dict[str, object]:
    with torch.device("meta"):
        model = getattr(transformers, stem)(transformers.T5Config(**config))
    model.tie_weights()
    return {"stem": stem, "config": config, "weights": {n: asdict(seen) for n, seen in weights_of(model).items()}}


if __name__ == "__main__":
    versions = f"transformers {transformers.__version__}, torch {torch.__version__.partition('+')[0]}"
    print(json.dumps({"made_with": versions, "cases": [recorded(*case) for case in CASES]}))
