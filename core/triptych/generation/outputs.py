"""What `generate` returns, under the names of transformers 4.

`sequences` [B * num_return_sequences, length], padded. In the order of the new tokens, one tuple each: `scores` and
`logits` [R, V], after and before the processors; attentions and hidden states as the model returned them. Of beams also
`sequences_scores` [B * num_return_sequences], and `beam_indices` [B * num_return_sequences, new tokens], the row that
each token was chosen for, -1 behind the end.
"""

from __future__ import annotations

from typing import Any

from triptych.nn.outputs import ModelOutput

_DECODER = ("attentions", "hidden_states")
_BOTH = ("encoder_attentions", "encoder_hidden_states", "decoder_attentions", "cross_attentions",
         "decoder_hidden_states")  # fmt: skip


def _made(name: str, *fields: str) -> Any:
    annotations = dict.fromkeys(fields, "Any")
    return type(name, (ModelOutput,), {"__annotations__": annotations, "__doc__": __doc__, "__module__": __name__})


def _pair(prefix: str, beams: bool) -> dict[str, Any]:
    first = (
        ("sequences", "sequences_scores", "scores", "logits", "beam_indices")
        if beams
        else ("sequences", "scores", "logits")
    )
    return {
        f"{prefix}{kind}Output": _made(f"{prefix}{kind}Output", *first, *fields, "past_key_values")
        for kind, fields in (("DecoderOnly", _DECODER), ("EncoderDecoder", _BOTH))
    }


_MODES = {
    "greedy_search": "GreedySearch", "sample": "Sample", "beam_search": "BeamSearch", "beam_sample": "BeamSample",
    "contrastive_search": "ContrastiveSearch",
}  # fmt: skip
_CLASSES = {
    **_pair("Generate", False),
    **_pair("GenerateBeam", True),
    **{n: c for mode in _MODES.values() for n, c in _pair(f"TF{mode}", mode.startswith("Beam")).items()},
    **{
        f"Flax{mode}Output": _made(f"Flax{mode}Output", "sequences", "scores", "logits", *_DECODER, *_BOTH)
        for mode in ("GreedySearch", "Sample", "ContrastiveSearch")
    },
    "FlaxBeamSearchOutput": _made(
        "FlaxBeamSearchOutput", "sequences", "scores", "step_scores", "logits", "beam_indices", *_DECODER, *_BOTH
    ),
}
_OF_PYTORCH = {
    f"{mode}{kind}Output": _CLASSES[f"Generate{'Beam' if mode.startswith('Beam') else ''}{kind}Output"]
    for mode in _MODES.values()
    for kind in ("DecoderOnly", "EncoderDecoder")
}
globals().update(_CLASSES | _OF_PYTORCH)


def output_class(prefix: str, mode: str, encodes: bool) -> Any:
    """Return the class of what `generate` returns in a framework: `prefix` is that of its classes."""
    kind = "EncoderDecoder" if encodes else "DecoderOnly"
    beams = "beam" in mode
    if prefix == "Flax":
        return _CLASSES["FlaxBeamSearchOutput" if beams else f"Flax{_MODES[mode]}Output"]
    if prefix == "TF":
        return _CLASSES[f"TF{_MODES.get(mode, 'BeamSearch')}{kind}Output"]
    return _CLASSES[f"Generate{'Beam' if beams else ''}{kind}Output"]
