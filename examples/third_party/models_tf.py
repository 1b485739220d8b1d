"""Sprig in Keras: a decoder, and the same with a head that scores the next token."""

import keras
import tensorflow as tf
from config import SprigConfig
from triptych.activations_tf import get_tf_activation
from triptych.modeling_tf_outputs import TFBaseModelOutputWithPast, TFCausalLMOutputWithPast

from triptych import TFPreTrainedModel


def dense(config, width, name):
    return keras.layers.Dense(
        width, kernel_initializer=keras.initializers.RandomNormal(stddev=config.initializer_range), name=name
    )


def layer_norm(config, name):
    return keras.layers.LayerNormalization(epsilon=config.layer_norm_eps, name=name)


class TFSprigAttention(keras.layers.Layer):
    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.heads, self.width = config.num_attention_heads, config.hidden_size
        self.query = dense(config, config.hidden_size, "query")
        self.key = dense(config, config.hidden_size, "key")
        self.value = dense(config, config.hidden_size, "value")
        self.output_layer = dense(config, config.hidden_size, "output")
        self.dropout = keras.layers.Dropout(config.dropout)

    def by_head(self, x):
        rows, length = tf.shape(x)[0], tf.shape(x)[1]
        return tf.transpose(tf.reshape(x, (rows, length, self.heads, self.width // self.heads)), (0, 2, 1, 3))

    def call(self, hidden, visible, head_mask=None, past=None, training=False):
        query, key, value = (self.by_head(layer(hidden)) for layer in (self.query, self.key, self.value))
        if past is not None:
            key, value = tf.concat([past[0], key], 2), tf.concat([past[1], value], 2)
        scores = tf.matmul(query, key, transpose_b=True) * (self.width // self.heads) ** -0.5
        scores = tf.where(visible, tf.cast(scores, tf.float32), tf.float32.min)
        shares = self.dropout(tf.cast(tf.nn.softmax(scores), value.dtype), training=training)
        if head_mask is not None:
            shares = shares * tf.cast(head_mask, shares.dtype)[:, None, None]
        mixed = tf.transpose(tf.matmul(shares, value), (0, 2, 1, 3))
        mixed = tf.reshape(mixed, (tf.shape(mixed)[0], tf.shape(mixed)[1], self.width))
        return self.output_layer(mixed), shares, (key, value)


class TFSprigBlock(keras.layers.Layer):
    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.attention_norm = layer_norm(config, "attention_norm")
        self.attention = TFSprigAttention(config, name="attention")
        self.norm = layer_norm(config, "norm")
        self.up = dense(config, config.intermediate_size, "up")
        self.act = get_tf_activation(config.hidden_act)
        self.down = dense(config, config.hidden_size, "down")
        self.dropout = keras.layers.Dropout(config.dropout)

    def call(self, hidden, visible, head_mask=None, past=None, training=False):
        mixed, shares, past = self.attention(self.attention_norm(hidden), visible, head_mask, past, training=training)
        hidden = hidden + self.dropout(mixed, training=training)
        more = self.down(self.act(self.up(self.norm(hidden))))
        return hidden + self.dropout(more, training=training), shares, past


class TFSprigPreTrainedModel(TFPreTrainedModel):
    config_class = SprigConfig
    base_model_prefix = "sprig"
    supports_gradient_checkpointing = True


class TFSprigModel(TFSprigPreTrainedModel):
    """The decoder. `shift` is what a corpus's embeddings have for a mean: saved, and not trained."""

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        normal = keras.initializers.RandomNormal(stddev=config.initializer_range)
        self.words = keras.layers.Embedding(config.vocab_size, config.hidden_size, normal, name="words")
        self.places = keras.layers.Embedding(config.max_position_embeddings, config.hidden_size, normal, name="places")
        self.shift = self.add_weight(name="shift", shape=(config.hidden_size,), initializer="zeros", trainable=False)
        self.dropout = keras.layers.Dropout(config.dropout)
        self.blocks = [TFSprigBlock(config, name=f"blocks_._{number}") for number in range(config.num_hidden_layers)]
        self.norm = layer_norm(config, "norm")
        self.gradient_checkpointing = False

    def get_input_embeddings(self):
        return self.words

    def positions(self, mask, length):
        """Return positions [B, Q] of the last `length` tokens, counted without padding."""
        return tf.maximum(tf.cumsum(mask, -1) - 1, 0)[:, tf.shape(mask)[1] - length :]

    def visible(self, mask, length):
        """Return which keys each of the last `length` tokens sees, [B, 1, Q, K]."""
        columns = tf.shape(mask)[1]
        causal = tf.range(columns)[None] <= tf.range(columns - length, columns)[:, None]
        return causal & (mask > 0)[:, None, None]

    def call(
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
        training=False,
    ):
        rows, length = tf.shape(input_ids)[0], tf.shape(input_ids)[1]
        before = 0 if past_key_values is None else tf.shape(past_key_values[0][0])[2]
        if attention_mask is None:
            attention_mask = tf.ones((rows, before + length), tf.int32)
        mask = tf.cast(attention_mask, tf.int32)
        if position_ids is None:
            position_ids = self.positions(mask, length)
        visible = self.visible(mask, length)
        embedded = self.words(input_ids)
        hidden = embedded - tf.cast(self.shift, embedded.dtype) + self.places(position_ids)
        hidden = self.dropout(hidden, training=training)
        states, attentions, caches = [hidden], [], []
        for number, block in enumerate(self.blocks):
            heads = head_mask if head_mask is None or len(head_mask.shape) == 1 else head_mask[number]
            past = None if past_key_values is None else past_key_values[number]
            if self.gradient_checkpointing and training:
                hidden, shares, cache = self._gradient_checkpointing_func(
                    block, hidden, visible, heads, past, training=training
                )
            else:
                hidden, shares, cache = block(hidden, visible, heads, past, training=training)
            states.append(hidden)
            attentions.append(shares)
            caches.append(cache)
        states[-1] = hidden = self.norm(hidden)
        output = TFBaseModelOutputWithPast(
            last_hidden_state=hidden,
            past_key_values=tuple(caches) if use_cache else None,
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
        )
        return output.to_tuple() if return_dict is False else output


class TFSprigForCausalLM(TFSprigPreTrainedModel):
    """The decoder with a head, which is its embeddings unless the config says otherwise."""

    _tied_weights_keys = {"lm_head.weight": "sprig.words.weight"}

    def __init__(self, config, **kwargs):
        super().__init__(config, **kwargs)
        self.sprig = TFSprigModel(config, name="sprig")
        self.lm_head = None
        if not config.tie_word_embeddings:
            self.lm_head = keras.layers.Dense(config.vocab_size, use_bias=False, name="lm_head")

    def get_input_embeddings(self):
        return self.sprig.words

    def get_output_embeddings(self):
        return self.lm_head

    def call(
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
        training=False,
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
            training=training,
        )
        hidden = inner.last_hidden_state
        if self.lm_head is None:
            logits = tf.matmul(hidden, tf.cast(self.sprig.words.embeddings, hidden.dtype), transpose_b=True)
        else:
            logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            targets = tf.cast(labels, tf.int32)[:, 1:]
            counted = tf.cast(targets >= 0, tf.float32)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(
                tf.maximum(targets, 0), tf.cast(logits[:, :-1], tf.float32)
            )
            loss = tf.reduce_sum(each * counted) / tf.reduce_sum(counted)
        output = TFCausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=inner.past_key_values,
            hidden_states=inner.hidden_states,
            attentions=inner.attentions,
        )
        return output.to_tuple() if return_dict is False else output

    def prepare_inputs_for_generation(self, inputs, past_key_values=None, attention_mask=None, **kwargs):
        if past_key_values is not None:
            inputs = inputs[:, past_key_values[0][0].shape[2] :]
        return {
            "input_ids": inputs,
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "use_cache": kwargs.get("use_cache"),
        }

    @staticmethod
    def _reorder_cache(past, beam_idx):
        return tuple(tuple(tf.gather(state, beam_idx) for state in layer) for layer in past)
