"""Output classes that no model of triptych returns, but models of others do."""

from __future__ import annotations

from typing import Any

from triptych.nn import outputs
from triptych.nn.outputs import ModelOutput

_LAYERS = "hidden_states attentions"
_LOGITS = f"loss logits {_LAYERS}"
_ENCODER = "encoder_last_hidden_state encoder_hidden_states encoder_attentions"
_DECODER = "past_key_values decoder_hidden_states decoder_attentions"
_SEQ2SEQ = f"{_DECODER} cross_attentions {_ENCODER}"
_SCALED = "loc scale static_features"

_FIELDS = {
    "BackboneOutput": f"feature_maps {_LAYERS}",
    "BaseModelOutputWithCrossAttentions": f"last_hidden_state {_LAYERS} cross_attentions",
    "BaseModelOutputWithNoAttention": "last_hidden_state hidden_states",
    "BaseModelOutputWithPastAndCrossAttentions": f"last_hidden_state past_key_values {_LAYERS} cross_attentions",
    "BaseModelOutputWithPoolingAndCrossAttentions":
        "last_hidden_state pooler_output hidden_states past_key_values attentions cross_attentions",
    "BaseModelOutputWithPoolingAndNoAttention": "last_hidden_state pooler_output hidden_states",
    "BaseModelOutputWithPoolingAndProjection": f"last_hidden_state pooler_output {_LAYERS} projection_state",
    "CausalLMOutput": _LOGITS,
    "CausalLMOutputWithCrossAttentions": f"loss logits past_key_values {_LAYERS} cross_attentions",
    "DepthEstimatorOutput": f"loss predicted_depth {_LAYERS}",
    "ImageClassifierOutput": _LOGITS,
    "ImageClassifierOutputWithNoAttention": "loss logits hidden_states",
    "ImageSuperResolutionOutput": f"loss reconstruction {_LAYERS}",
    "MaskedImageModelingOutput": f"loss reconstruction {_LAYERS}",
    "MoECausalLMOutputWithPast": f"loss logits past_key_values {_LAYERS} z_loss aux_loss router_logits",
    "MoEModelOutput": f"last_hidden_state {_LAYERS} router_probs",
    "MoEModelOutputWithPastAndCrossAttentions":
        f"last_hidden_state past_key_values {_LAYERS} cross_attentions router_probs",
    "MoeCausalLMOutputWithPast": f"loss aux_loss logits past_key_values {_LAYERS} router_logits",
    "MoeModelOutputWithPast": f"last_hidden_state past_key_values {_LAYERS} router_logits",
    "MultipleChoiceModelOutput": _LOGITS,
    "NextSentencePredictorOutput": _LOGITS,
    "SampleTSPredictionOutput": "sequences",
    "SemanticSegmenterOutput": _LOGITS,
    "SemanticSegmenterOutputWithNoAttention": "loss logits hidden_states",
    "Seq2SeqMoEModelOutput":
        f"last_hidden_state {_DECODER} decoder_router_logits cross_attentions {_ENCODER} encoder_router_logits",
    "Seq2SeqMoEOutput":
        "loss logits encoder_z_loss decoder_z_loss encoder_aux_loss decoder_aux_loss "
        f"{_DECODER} decoder_router_logits cross_attentions {_ENCODER} encoder_router_logits",
    "Seq2SeqQuestionAnsweringModelOutput": f"loss start_logits end_logits {_SEQ2SEQ}",
    "Seq2SeqSequenceClassifierOutput": f"loss logits {_SEQ2SEQ}",
    "Seq2SeqSpectrogramOutput": f"loss spectrogram {_SEQ2SEQ}",
    "Seq2SeqTSModelOutput": f"last_hidden_state {_SEQ2SEQ} {_SCALED}",
    "Seq2SeqTSPredictionOutput": f"loss params {_SEQ2SEQ} {_SCALED}",
    "Wav2Vec2BaseModelOutput": f"last_hidden_state extract_features {_LAYERS}",
    "XVectorOutput": f"loss logits embeddings {_LAYERS}",
}  # fmt: skip
"""Class -> its fields, in order."""


def _made(name: str, fields: str) -> type[ModelOutput]:
    """Return an output class, whose constructor takes its fields by position, too."""
    body = {"__annotations__": dict.fromkeys(fields.split(), Any), "__module__": __name__, "__doc__": f"`{fields}`."}
    return type(name, (ModelOutput,), body)


for _name, _text in _FIELDS.items():
    if _name not in vars(outputs):  # where a model of triptych returns it by now
        globals()[_name] = _made(_name, _text)

_OF_ALL = (
    "BaseModelOutput BaseModelOutputWithNoAttention BaseModelOutputWithPast BaseModelOutputWithPastAndCrossAttentions "
    "BaseModelOutputWithPooling BaseModelOutputWithPoolingAndCrossAttentions BaseModelOutputWithPoolingAndNoAttention "
    "CausalLMOutputWithCrossAttentions ImageClassifierOutputWithNoAttention MaskedLMOutput MultipleChoiceModelOutput "
    "NextSentencePredictorOutput QuestionAnsweringModelOutput Seq2SeqLMOutput Seq2SeqModelOutput "
    "Seq2SeqQuestionAnsweringModelOutput Seq2SeqSequenceClassifierOutput SequenceClassifierOutput TokenClassifierOutput"
).split()
OF_FLAX = (*_OF_ALL, "CausalLMOutput")
OF_TF = (
    *_OF_ALL, "BaseModelOutputWithCrossAttentions", "CausalLMOutput", "CausalLMOutputWithPast", "ImageClassifierOutput",
    "MaskedImageModelingOutput", "SemanticSegmenterOutput", "SemanticSegmenterOutputWithNoAttention",
    "SequenceClassifierOutputWithPast",
)  # fmt: skip
"""Classes that transformers 4 had for TensorFlow, with TF before the name."""
