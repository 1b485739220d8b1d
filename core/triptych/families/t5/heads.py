"""T5 that classifies, or finds a span."""

from __future__ import annotations

from typing import Any

from triptych.errors import ArgumentError
from triptych.families.t5.model import T5EncoderModel, T5Model, stacks
from triptych.nn import functional as fn
from triptych.nn.axes import hidden_axis, labels_axis
from triptych.nn.parts import Model, Part
from triptych.nn.seeding import again
from triptych.nn.stack import finish, finish_span

_run: Any = T5Model.call


class T5ClassificationHead(Part):
    def setup(self) -> None:
        make, config, hidden = self.make, self.config, hidden_axis(self.config)
        self.dense = make.dense(self, hidden, hidden, std=config.initializer_factor * config.d_model**-0.5)
        self.dropout = make.dropout(self, config.classifier_dropout)
        self.out_proj = make.dense(
            self, hidden, labels_axis(config), std=config.initializer_factor * config.d_model**-0.5
        )

    def call(self, hidden_states: Any) -> Any:
        inner = self.ops.tanh(self.dense(self.dropout(hidden_states)))
        return self.out_proj(again(self.dropout, inner))


class T5ForSequenceClassification(Model):
    """T5 that classifies or scores a text, from the decoder's state at its last end-of-text token.

    The decoder reads the text that the encoder reads, shifted right, unless it is given another of the same length.
    """

    task = "SequenceClassification"
    base_model_prefix = "transformer"

    def setup(self) -> None:
        self.transformer = self.make.block(self, T5Model)
        self.classification_head = self.make.block(self, T5ClassificationHead)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        head_mask: Any = None,
        decoder_head_mask: Any = None,
        cross_attn_head_mask: Any = None,
        encoder_outputs: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        labels: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits [B, labels], and with `labels` the loss: see `triptych.nn.heads.task_output`.

        Raises:
            ArgumentError: no `input_ids`, or the texts have no end-of-text token, or different numbers of them.
        """
        if input_ids is None:
            raise ArgumentError(
                f"{type(self).__name__} looks for the end of each text.", expected="input_ids", received="none"
            )
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = fn.shifted_right(self.ops, self.config, input_ids)
        backbone = self.transformer(
            input_ids, attention_mask, decoder_input_ids, decoder_attention_mask, head_mask, decoder_head_mask,
            cross_attn_head_mask, encoder_outputs, None, inputs_embeds, decoder_inputs_embeds,
            use_cache if labels is None else False, output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        ends = _last_ends(self.ops, self.config, input_ids, backbone.last_hidden_state)
        logits = self.classification_head(self.ops.pick(backbone.last_hidden_state, ends))
        return finish(self, backbone, logits, labels, return_dict)


def _last_ends(ops: Any, config: Any, input_ids: Any, hidden: Any) -> Any:
    """Return the place [B] of the last end-of-text token of each text."""
    lengths = [ops.shape(x)[1] for x in (input_ids, hidden)]
    if all(isinstance(length, int) for length in lengths) and lengths[0] != lengths[1]:
        raise ArgumentError(
            "The decoder reads a text of another length.", expected=str(lengths[0]), received=str(lengths[1])
        )
    if not isinstance(config.eos_token_id, int):
        raise ArgumentError(
            "Which token ends a text?", expected="a number as config.eos_token_id", received=repr(config.eos_token_id)
        )
    is_end = ops.cast(input_ids == config.eos_token_id, "int32")
    counts = ops.cumsum(is_end)[:, -1]
    fewest, most = ops.known(-ops.max(-counts)), ops.known(ops.max(counts))
    if fewest == 0 or fewest != most:
        raise ArgumentError(
            "The texts do not end alike.",
            expected=f"the same number of tokens {config.eos_token_id}, at least one, in each text",
            received=f"from {fewest} to {most}",
        )
    return ops.argmax(ops.cast(ops.arange(lengths[0], hidden)[None, :], "int32") * is_end)


class T5ForTokenClassification(Model):
    """T5's encoder that classifies every token."""

    task = "TokenClassification"
    base_model_prefix = "transformer"

    def setup(self) -> None:
        make, config = self.make, self.config
        self.transformer = make.block(self, T5EncoderModel)
        self.dropout = make.dropout(self, config.classifier_dropout)
        self.classifier = make.dense(self, hidden_axis(config), labels_axis(config), std=config.initializer_factor)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        head_mask: Any = None,
        inputs_embeds: Any = None,
        labels: Any = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return logits [B, Q, labels], and with `labels` [B, Q] the loss."""
        backbone = self.transformer(
            input_ids, attention_mask, head_mask, inputs_embeds, output_attentions, output_hidden_states,
            return_dict=True,
        )  # fmt: skip
        logits = self.classifier(self.dropout(backbone.last_hidden_state))
        return finish(self, backbone, logits, labels, return_dict)


class T5ForQuestionAnswering(Model):
    """T5 that finds a span, in the text that the decoder reads: that of the encoder, shifted right, unless another is
    given."""

    task = "QuestionAnswering"
    heads = ("qa_outputs",)

    def setup(self) -> None:
        config = self.config
        self.shared, self.encoder, self.decoder = stacks(self, decoder=True)
        std = config.initializer_factor * config.d_model**-0.5
        self.qa_outputs = self.make.dense(self, hidden_axis(config), labels_axis(config), std=std)

    def call(
        self,
        input_ids: Any = None,
        attention_mask: Any = None,
        decoder_input_ids: Any = None,
        decoder_attention_mask: Any = None,
        head_mask: Any = None,
        decoder_head_mask: Any = None,
        cross_attn_head_mask: Any = None,
        encoder_outputs: Any = None,
        start_positions: Any = None,
        end_positions: Any = None,
        inputs_embeds: Any = None,
        decoder_inputs_embeds: Any = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool | None = None,
    ) -> Any:
        """Return start and end logits [B, T], and with both positions [B] the loss."""
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            if input_ids is None:
                raise ArgumentError(
                    "What does the decoder read?", expected="input_ids, or an input of the decoder", received="neither"
                )
            decoder_input_ids = fn.shifted_right(self.ops, self.config, input_ids)
        trained = start_positions is not None and end_positions is not None
        backbone = _run(
            self, input_ids, attention_mask, decoder_input_ids, decoder_attention_mask, head_mask, decoder_head_mask,
            cross_attn_head_mask, encoder_outputs, None, inputs_embeds, decoder_inputs_embeds,
            False if trained else use_cache, output_attentions, output_hidden_states, return_dict=True,
        )  # fmt: skip
        logits = self.qa_outputs(backbone.last_hidden_state)
        return finish_span(self, backbone, logits, start_positions, end_positions, return_dict)
