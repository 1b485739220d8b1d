"""Sprig in PyTorch: a decoder, and the same with a head that scores the next token."""

import torch
from config import SprigConfig
from torch import nn
from triptych.activations import ACT2FN
from triptych.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from triptych import GenerationMixin, PreTrainedModel


class SprigAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.heads = config.num_attention_heads
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)
        self.output = nn.Linear(config.hidden_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def by_head(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

    def joined(self, mixed):
        return mixed.transpose(1, 2).flatten(2)

    def forward(self, hidden, visible, head_mask=None, past=None):
        query, key, value = (self.by_head(layer(hidden)) for layer in (self.query, self.key, self.value))
        if past is not None:
            key, value = torch.cat([past[0], key], 2), torch.cat([past[1], value], 2)
        scores = query @ key.mT * query.shape[-1] ** -0.5
        scores = scores.float().masked_fill(~visible, torch.finfo(torch.float32).min)
        shares = self.dropout(torch.softmax(scores, -1).to(value.dtype))
        if head_mask is not None:
            shares = shares * head_mask[:, None, None].to(shares.dtype)
        return self.output(self.joined(shares @ value)), shares, (key, value)


class SprigBlock(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attention = SprigAttention(config)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.up = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = ACT2FN[config.hidden_act]
        self.down = nn.Linear(config.intermediate_size, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, hidden, visible, head_mask=None, past=None):
        mixed, shares, past = self.attention(self.attention_norm(hidden), visible, head_mask, past)
        hidden = hidden + self.dropout(mixed)
        return hidden + self.dropout(self.down(self.act(self.up(self.norm(hidden))))), shares, past


class SprigPreTrainedModel(PreTrainedModel):
    config_class = SprigConfig
    base_model_prefix = "sprig"
    supports_gradient_checkpointing = True


class SprigModel(SprigPreTrainedModel):
    """The decoder. `shift` is what a corpus's embeddings have for a mean: saved, and not trained."""

    def __init__(self, config):
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.places = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.register_buffer("shift", torch.zeros(config.hidden_size))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(SprigBlock(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.gradient_checkpointing = False
        self.post_init()

    def get_input_embeddings(self):
        return self.words

    def set_input_embeddings(self, value):
        self.words = value

    def positions(self, mask, length):
        """Return positions [B, Q] of the last `length` tokens, counted without padding."""
        return (mask.cumsum(-1) - 1).clamp(min=0)[:, -length:]

    def visible(self, mask, length):
        """Return which keys each of the last `length` tokens sees, [B, 1, Q, K]."""
        causal = torch.ones(length, mask.shape[1], dtype=torch.bool, device=mask.device).tril(mask.shape[1] - length)
        return causal & mask.bool()[:, None, None]

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        past_key_values=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        rows, length = input_ids.shape
        before = 0 if past_key_values is None else past_key_values[0][0].shape[2]
        if attention_mask is None:
            attention_mask = torch.ones(rows, before + length, device=input_ids.device)
        if position_ids is None:
            position_ids = self.positions(attention_mask.long(), length)
        visible = self.visible(attention_mask, length)
        hidden = self.dropout(self.words(input_ids) - self.shift + self.places(position_ids))
        states, attentions, caches = [hidden], [], []
        for number, block in enumerate(self.blocks):
            mask = None if head_mask is None else head_mask.expand(len(self.blocks), -1)[number]
            past = None if past_key_values is None else past_key_values[number]
            if self.gradient_checkpointing and self.training:
                hidden, shares, cache = self._gradient_checkpointing_func(block.__call__, hidden, visible, mask, past)
            else:
                hidden, shares, cache = block(hidden, visible, mask, past)
            states.append(hidden)
            attentions.append(shares)
            caches.append(cache)
        states[-1] = hidden = self.norm(hidden)
        output = BaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=tuple(caches) if use_cache else None,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output.to_tuple() if return_dict is False else output


class SprigForCausalLM(SprigPreTrainedModel, GenerationMixin):
    """The decoder with a head, which is its embeddings unless the config says otherwise."""

    _tied_weights_keys = {"lm_head.weight": "sprig.words.weight"}

    def __init__(self, config):
        super().__init__(config)
        self.sprig = SprigModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.sprig.words

    def set_input_embeddings(self, value):
        self.sprig.words = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def forward(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        past_key_values=None,
        labels=None,
        use_cache=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
    ):
        inner = self.sprig(
            input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            head_mask=head_mask,
            past_key_values=past_key_values,
            use_cache=use_cache,
            output_attentions=output_attentions,
            output_hidden_states=output_hidden_states,
        )
        logits = self.lm_head(inner.last_hidden_state)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        output = CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=inner.past_key_values,
            hidden_states=inner.hidden_states,
            attentions=inner.attentions,
        )
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(self, input_ids, past_key_values=None, attention_mask=None, **kwargs):
        if past_key_values is not None:
            input_ids = input_ids[:, past_key_values[0][0].shape[2] :]
        return {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "use_cache": kwargs.get("use_cache"),
        }

    @staticmethod
    def _reorder_cache(past, beam_idx):
        return tuple(tuple(state.index_select(0, beam_idx) for state in layer) for layer in past)
