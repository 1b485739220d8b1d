"""Sprig in Flax (linen): a decoder, and the same with a head that scores the next token."""

import jax
import jax.numpy as jnp
from config import SprigConfig
from flax import linen as nn
from triptych.modeling_flax_outputs import FlaxBaseModelOutputWithPast, FlaxCausalLMOutputWithCrossAttentions
from triptych.modeling_flax_utils import ACT2FN

from triptych import FlaxPreTrainedModel


def normal(config):
    return nn.initializers.normal(config.initializer_range)


class FlaxSprigAttention(nn.Module):
    config: SprigConfig
    dtype: jnp.dtype = jnp.float32

    def by_head(self, x):
        return x.reshape(*x.shape[:2], self.config.num_attention_heads, -1).swapaxes(1, 2)

    def cached(self, key, value, visible):
        """Write keys and values [B, N, Q, D] behind those of the cache; return all, and which of them are seen."""
        begun = self.has_variable("cache", "cached_key")
        keys = self.variable("cache", "cached_key", jnp.zeros, key.shape, key.dtype)
        values = self.variable("cache", "cached_value", jnp.zeros, value.shape, value.dtype)
        index = self.variable("cache", "cache_index", lambda: jnp.array(0, jnp.int32))
        if not begun:
            return key, value, visible
        start = index.value
        keys.value = jax.lax.dynamic_update_slice(keys.value, key.astype(keys.value.dtype), (0, 0, start, 0))
        values.value = jax.lax.dynamic_update_slice(values.value, value.astype(values.value.dtype), (0, 0, start, 0))
        index.value = start + key.shape[2]
        causal = jnp.arange(keys.value.shape[2])[None] <= start + jnp.arange(key.shape[2])[:, None]
        return keys.value, values.value, causal & visible

    @nn.compact
    def __call__(self, hidden, visible, head_mask=None, deterministic=True, init_cache=False):
        def dense(name):
            return nn.Dense(self.config.hidden_size, dtype=self.dtype, kernel_init=normal(self.config), name=name)

        query, key, value = (self.by_head(dense(name)(hidden)) for name in ("query", "key", "value"))
        if init_cache or self.has_variable("cache", "cached_key"):
            key, value, visible = self.cached(key, value, visible)
        scores = query @ key.swapaxes(-1, -2) * query.shape[-1] ** -0.5
        scores = jnp.where(visible, scores.astype(jnp.float32), jnp.finfo(jnp.float32).min)
        shares = jax.nn.softmax(scores).astype(value.dtype)
        shares = nn.Dropout(self.config.dropout)(shares, deterministic=deterministic)
        if head_mask is not None:
            shares = shares * head_mask[:, None, None].astype(shares.dtype)
        mixed = (shares @ value).swapaxes(1, 2)
        return dense("output")(mixed.reshape(*mixed.shape[:2], -1)), shares


class FlaxSprigBlock(nn.Module):
    config: SprigConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        config = self.config
        eps = config.layer_norm_eps
        self.attention_norm = nn.LayerNorm(epsilon=eps, use_fast_variance=False, dtype=self.dtype)
        self.attention = FlaxSprigAttention(config, self.dtype)
        self.norm = nn.LayerNorm(epsilon=eps, use_fast_variance=False, dtype=self.dtype)
        self.up = nn.Dense(config.intermediate_size, dtype=self.dtype, kernel_init=normal(config))
        self.act = ACT2FN[config.hidden_act]
        self.down = nn.Dense(config.hidden_size, dtype=self.dtype, kernel_init=normal(config))
        self.dropout = nn.Dropout(config.dropout)

    def __call__(self, hidden, visible, head_mask=None, deterministic=True, init_cache=False):
        mixed, shares = self.attention(self.attention_norm(hidden), visible, head_mask, deterministic, init_cache)
        hidden = hidden + self.dropout(mixed, deterministic=deterministic)
        more = self.down(self.act(self.up(self.norm(hidden))))
        return hidden + self.dropout(more, deterministic=deterministic), shares


class FlaxSprigBlocks(nn.Module):
    """The list of blocks: called by number, so that weights are named `blocks.0` as those of a list of PyTorch."""

    config: SprigConfig
    dtype: jnp.dtype = jnp.float32
    gradient_checkpointing: bool = False

    @nn.compact
    def __call__(self, hidden, visible, head_mask, deterministic, init_cache):
        block = nn.remat(FlaxSprigBlock, static_argnums=(4, 5)) if self.gradient_checkpointing else FlaxSprigBlock
        states, attentions = [hidden], []
        for number in range(self.config.num_hidden_layers):
            heads = head_mask if head_mask is None or head_mask.ndim == 1 else head_mask[number]
            one = block(self.config, self.dtype, name=str(number))
            hidden, shares = one(hidden, visible, heads, deterministic, init_cache)
            states.append(hidden)
            attentions.append(shares)
        return states, attentions


class FlaxSprigModule(nn.Module):
    """The decoder. `shift` is what a corpus's embeddings have for a mean: saved, and not trained."""

    config: SprigConfig
    dtype: jnp.dtype = jnp.float32
    gradient_checkpointing: bool = False

    def setup(self):
        config = self.config
        self.words = nn.Embed(config.vocab_size, config.hidden_size, embedding_init=normal(config), dtype=self.dtype)
        self.places = nn.Embed(
            config.max_position_embeddings, config.hidden_size, embedding_init=normal(config), dtype=self.dtype
        )
        self.shift = self.variable("statistics", "shift", jnp.zeros, (config.hidden_size,))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = FlaxSprigBlocks(config, self.dtype, self.gradient_checkpointing)
        self.norm = nn.LayerNorm(epsilon=config.layer_norm_eps, use_fast_variance=False, dtype=self.dtype)

    def positions(self, mask):
        """Return positions [B, Q], counted without padding."""
        return jnp.maximum(jnp.cumsum(mask, -1) - 1, 0)

    def visible(self, mask, length):
        """Return which keys each token sees, [B, 1, Q, K]; over a cache, which has more columns, the causal part of it
        is known where the cache is."""
        seen = (mask > 0)[:, None, None]
        return seen & jnp.tril(jnp.ones((length, length), bool)) if mask.shape[1] == length else seen

    def __call__(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        deterministic=True,
        init_cache=False,
    ):
        length = input_ids.shape[1]
        mask = jnp.ones(input_ids.shape, "i4") if attention_mask is None else attention_mask.astype("i4")
        if position_ids is None:
            position_ids = self.positions(mask)
        visible = self.visible(mask, length)
        embedded = self.words(input_ids)
        hidden = embedded - self.shift.value.astype(embedded.dtype) + self.places(position_ids)
        hidden = self.dropout(hidden, deterministic=deterministic)
        states, attentions = self.blocks(hidden, visible, head_mask, deterministic, init_cache)
        states[-1] = hidden = self.norm(states[-1])
        output = FlaxBaseModelOutputWithPast(
            last_hidden_state=hidden,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output.to_tuple() if return_dict is False else output


class FlaxSprigForCausalLMModule(nn.Module):
    config: SprigConfig
    dtype: jnp.dtype = jnp.float32
    gradient_checkpointing: bool = False
    module_class = FlaxSprigModule

    def setup(self):
        self.sprig = self.module_class(self.config, self.dtype, self.gradient_checkpointing)
        if not self.config.tie_word_embeddings:
            self.lm_head = nn.Dense(
                self.config.vocab_size, use_bias=False, dtype=self.dtype, kernel_init=normal(self.config)
            )

    def __call__(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        labels=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        deterministic=True,
        init_cache=False,
    ):
        inner = self.sprig(
            input_ids,
            attention_mask,
            position_ids,
            head_mask,
            output_attentions,
            output_hidden_states,
            deterministic=deterministic,
            init_cache=init_cache,
        )
        hidden = inner.last_hidden_state
        logits = self.sprig.words.attend(hidden) if self.config.tie_word_embeddings else self.lm_head(hidden)
        loss = None
        if labels is not None:
            targets = labels[:, 1:]
            shares = jax.nn.log_softmax(logits[:, :-1].astype(jnp.float32))
            each = -jnp.take_along_axis(shares, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
            loss = jnp.where(targets >= 0, each, 0).sum() / (targets >= 0).sum()
        output = FlaxCausalLMOutputWithCrossAttentions(
            logits=logits, hidden_states=inner.hidden_states, attentions=inner.attentions
        )
        if loss is not None:
            output["loss"] = loss
        return output.to_tuple() if return_dict is False else output


class FlaxSprigPreTrainedModel(FlaxPreTrainedModel):
    config_class = SprigConfig
    base_model_prefix = "sprig"
    supports_gradient_checkpointing = True


class FlaxSprigModel(FlaxSprigPreTrainedModel):
    module_class = FlaxSprigModule

    def get_input_embeddings(self):
        return self.params["params"]["words"]["embedding"]

    def set_input_embeddings(self, value):
        held = self.params["params"]
        self.params = {**self.params, "params": {**held, "words": {"embedding": value}}}


class FlaxSprigForCausalLM(FlaxSprigPreTrainedModel):
    """The decoder with a head, which is its embeddings unless the config says otherwise."""

    module_class = FlaxSprigForCausalLMModule
    _tied_weights_keys = {"lm_head.weight": "sprig.words.weight"}

    def get_input_embeddings(self):
        return self.params["params"]["sprig"]["words"]["embedding"]

    def set_input_embeddings(self, value):
        held = self.params["params"]
        sprig = {**held["sprig"], "words": {"embedding": value}}
        self.params = {**self.params, "params": {**held, "sprig": sprig}}

    def get_output_embeddings(self):
        if self.config.tie_word_embeddings:
            return self.get_input_embeddings()
        return self.params["params"]["lm_head"]["kernel"].T

    def __call__(
        self,
        input_ids,
        attention_mask=None,
        position_ids=None,
        head_mask=None,
        past_key_values=None,
        labels=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        params=None,
        dropout_rng=None,
        train=False,
    ):
        inputs = {
            "attention_mask": attention_mask,
            "position_ids": position_ids,
            "head_mask": head_mask,
            "labels": labels,
            "output_attentions": output_attentions,
            "output_hidden_states": output_hidden_states,
            "return_dict": return_dict,
        }
        held = self.params if params is None else params
        if past_key_values is None:
            return self.run_module(input_ids, params=held, dropout_rng=dropout_rng, train=train, **inputs)
        held = {**held, "cache": past_key_values}
        output, changed = self.run_module(input_ids, params=held, mutable=["cache"], **inputs)
        output["past_key_values"] = changed["cache"]
        return output

    def init_cache(self, batch_size, max_length):
        ids = jnp.ones((batch_size, max_length), "i4")
        made = jax.eval_shape(lambda key: self.module.init(key, ids, init_cache=True), jax.random.PRNGKey(0))
        return jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), made["cache"])

    def prepare_inputs_for_generation(self, input_ids, max_length, attention_mask=None):
        rows, length = input_ids.shape
        mask = jnp.ones((rows, max_length), "i4")
        if attention_mask is not None:
            mask = jax.lax.dynamic_update_slice(mask, attention_mask.astype("i4"), (0, 0))
        positions = jnp.maximum(jnp.cumsum(mask, -1) - 1, 0)[:, :length]
        return {
            "past_key_values": self.init_cache(rows, max_length),
            "attention_mask": mask,
            "position_ids": positions,
        }

    def update_inputs_for_generation(self, model_outputs, model_kwargs):
        return {
            **model_kwargs,
            "past_key_values": model_outputs.past_key_values,
            "position_ids": model_kwargs["position_ids"][:, -1:] + 1,
        }
