"""Three Keras models as authors wrote them for transformers 4. Only the lines that import them name a library."""

import tensorflow as tf
from triptych.modeling_tf_outputs import TFBaseModelOutput, TFCausalLMOutput, TFSequenceClassifierOutput
from triptych.modeling_tf_utils import get_initializer, keras, keras_serializable, unpack_inputs

from triptych import PretrainedConfig, TFBertForSequenceClassification, TFPreTrainedModel


class SignalConfig(PretrainedConfig):
    model_type = "signal"

    def __init__(self, channels=3, hidden_size=8, num_hidden_layers=2, initializer_range=0.2, **kwargs):
        self.channels = channels
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.initializer_range = initializer_range
        super().__init__(**kwargs)


class TFSignalBlock(keras.layers.Layer):
    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.conv = keras.layers.Conv1D(
            config.hidden_size,
            3,
            padding="same",
            name="conv",
            kernel_initializer=get_initializer(config.initializer_range),
        )
        self.norm = keras.layers.BatchNormalization(epsilon=1e-3, name="norm")

    def call(self, hidden, training=False):
        return hidden + tf.nn.relu(self.norm(self.conv(hidden), training=training))

    def build(self, input_shape=None):
        if self.built:
            return
        self.built = True
        with tf.name_scope(self.conv.name):
            self.conv.build([None, None, self.config.hidden_size])
        with tf.name_scope(self.norm.name):
            self.norm.build([None, None, self.config.hidden_size])


@keras_serializable
class TFSignalMainLayer(keras.layers.Layer):
    config_class = SignalConfig

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.stem = keras.layers.Dense(config.hidden_size, name="stem")
        self.blocks = [TFSignalBlock(config, name=f"blocks_._{index}") for index in range(config.num_hidden_layers)]

    @unpack_inputs
    def call(self, values=None, output_attentions=None, output_hidden_states=None, return_dict=None, training=False):
        hidden = self.stem(values) + self.shift
        for block in self.blocks:
            hidden = block(hidden, training=training)
        return TFBaseModelOutput(last_hidden_state=hidden)

    def build(self, input_shape=None):
        if self.built:
            return
        self.built = True
        self.shift = self.add_weight(
            name="shift", shape=(self.config.hidden_size,), initializer="zeros", trainable=False
        )
        with tf.name_scope(self.stem.name):
            self.stem.build([None, None, self.config.channels])
        for block in self.blocks:
            with tf.name_scope(block.name):
                block.build(None)


class TFSignalEncoder(TFPreTrainedModel):
    """An encoder with BatchNorm, and a variable that is saved but not trained."""

    config_class = SignalConfig
    base_model_prefix = "signal"
    main_input_name = "values"

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.signal = TFSignalMainLayer(config, name="signal")

    @property
    def input_signature(self):
        return {"values": tf.TensorSpec((None, None, self.config.channels), tf.float32, name="values")}

    @property
    def dummy_inputs(self):
        return {"values": tf.zeros((1, 4, self.config.channels))}

    @unpack_inputs
    def call(self, values=None, output_attentions=None, output_hidden_states=None, return_dict=None, training=False):
        return self.signal(values, return_dict=return_dict, training=training)

    def build(self, input_shape=None):
        if self.built:
            return
        self.built = True
        if getattr(self, "signal", None) is not None:
            with tf.name_scope(self.signal.name):
                self.signal.build(None)


class RecurrentConfig(PretrainedConfig):
    model_type = "recurrent"

    def __init__(self, vocab_size=19, hidden_size=8, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)


@keras_serializable
class TFRecurrentMainLayer(keras.layers.Layer):
    config_class = RecurrentConfig

    def __init__(self, config, **kwargs):
        super().__init__(**kwargs)
        self.config = config
        self.embed_tokens = keras.layers.Embedding(config.vocab_size, config.hidden_size, name="embed_tokens")
        self.mix = keras.layers.Dense(config.hidden_size, name="mix")
        self.norm = keras.layers.LayerNormalization(epsilon=1e-6, name="norm")

    def get_input_embeddings(self):
        return self.embed_tokens

    def call(self, input_ids):
        embedded, states = self.embed_tokens(input_ids), []
        state = tf.zeros_like(embedded[:, 0])
        for step in range(embedded.shape[1]):
            state = tf.tanh(self.mix(tf.concat([state, embedded[:, step]], axis=-1)))
            states.append(state)
        return self.norm(tf.stack(states, axis=1))

    def build(self, input_shape=None):
        if self.built:
            return
        self.built = True
        with tf.name_scope(self.embed_tokens.name):
            self.embed_tokens.build(None)
        with tf.name_scope(self.mix.name):
            self.mix.build([None, 2 * self.config.hidden_size])
        with tf.name_scope(self.norm.name):
            self.norm.build([None, None, self.config.hidden_size])


class TFRecurrentForCausalLM(TFPreTrainedModel):
    """A causal model that scores with its embeddings, as a list of names says."""

    config_class = RecurrentConfig
    base_model_prefix = "model"
    _tied_weights_keys = ["lm_head.weight"]
    _keys_to_ignore_on_load_unexpected = [r"lm_head.weight"]

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.model = TFRecurrentMainLayer(config, name="model")

    def get_input_embeddings(self):
        return self.model.embed_tokens

    @property
    def dummy_inputs(self):
        return {"input_ids": tf.constant([[1, 2, 3]])}

    @unpack_inputs
    def call(self, input_ids=None, output_attentions=None, output_hidden_states=None, return_dict=None, training=False):
        hidden = self.model(input_ids)
        return TFCausalLMOutput(logits=tf.matmul(hidden, self.model.embed_tokens.embeddings, transpose_b=True))

    def build(self, input_shape=None):
        if self.built:
            return
        self.built = True
        if getattr(self, "model", None) is not None:
            with tf.name_scope(self.model.name):
                self.model.build(None)


class TFBertForScoring(TFBertForSequenceClassification):
    """A built-in class with another head."""

    def __init__(self, config, *inputs, **kwargs):
        super().__init__(config, *inputs, **kwargs)
        self.squeeze = keras.layers.Dense(4, name="squeeze")
        self.classifier = keras.layers.Dense(config.num_labels, name="classifier")

    @unpack_inputs
    def call(
        self,
        input_ids=None,
        attention_mask=None,
        output_attentions=None,
        output_hidden_states=None,
        return_dict=None,
        training=False,
    ):
        pooled = self.bert(input_ids, attention_mask=attention_mask, training=training)[1]
        return TFSequenceClassifierOutput(logits=self.classifier(tf.tanh(self.squeeze(pooled))))

    def build(self, input_shape=None):
        if self.built:
            return
        self.built = True
        with tf.name_scope(self.bert.name):
            self.bert.build(None)
        with tf.name_scope(self.squeeze.name):
            self.squeeze.build([None, self.config.hidden_size])
        with tf.name_scope(self.classifier.name):
            self.classifier.build([None, 4])
