"""Three Flax models as authors wrote them for transformers 4. Only the lines that import them name a library."""

from typing import Any, Optional, Tuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core.frozen_dict import FrozenDict, freeze, unfreeze
from flax.traverse_util import flatten_dict, unflatten_dict
from triptych.modeling_flax_outputs import FlaxBaseModelOutput, FlaxCausalLMOutput, FlaxSequenceClassifierOutput
from triptych.models.bert.modeling_flax_bert import FlaxBertModule

from triptych import BertConfig, FlaxPreTrainedModel, PretrainedConfig


class SignalConfig(PretrainedConfig):
    model_type = "signal"

    def __init__(self, channels=3, hidden_size=8, num_hidden_layers=2, initializer_range=0.2, **kwargs):
        self.channels = channels
        self.hidden_size = hidden_size
        self.num_hidden_layers = num_hidden_layers
        self.initializer_range = initializer_range
        super().__init__(**kwargs)


class FlaxSignalBlock(nn.Module):
    config: SignalConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.conv = nn.Conv(self.config.hidden_size, (3,), padding="SAME", dtype=self.dtype)
        self.norm = nn.BatchNorm(momentum=0.9, epsilon=1e-3, dtype=self.dtype)

    def __call__(self, hidden, deterministic=True):
        return hidden + nn.relu(self.norm(self.conv(hidden), use_running_average=deterministic))


class FlaxSignalModule(nn.Module):
    config: SignalConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.stem = nn.Dense(self.config.hidden_size, dtype=self.dtype)
        self.blocks = [
            FlaxSignalBlock(self.config, name=f"blocks_{index}", dtype=self.dtype)
            for index in range(self.config.num_hidden_layers)
        ]

    def __call__(self, values, deterministic=True, return_dict=True):
        hidden = self.stem(values)
        for block in self.blocks:
            hidden = block(hidden, deterministic=deterministic)
        return FlaxBaseModelOutput(last_hidden_state=hidden) if return_dict else (hidden,)


class FlaxSignalEncoder(FlaxPreTrainedModel):
    """An encoder with BatchNorm, whose statistics are a collection of their own."""

    config_class = SignalConfig
    base_model_prefix = "signal"
    main_input_name = "values"
    module_class = FlaxSignalModule

    def __init__(
        self,
        config: SignalConfig,
        input_shape: Optional[Tuple] = None,
        seed: int = 0,
        dtype: jnp.dtype = jnp.float32,
        _do_init: bool = True,
        **kwargs,
    ):
        module = self.module_class(config=config, dtype=dtype, **kwargs)
        input_shape = (1, 4, config.channels) if input_shape is None else input_shape
        super().__init__(config, module, input_shape=input_shape, seed=seed, dtype=dtype, _do_init=_do_init)

    def init_weights(self, rng: jax.Array, input_shape: Tuple, params: FrozenDict = None) -> FrozenDict:
        values = jnp.zeros(input_shape, dtype=self.dtype)
        fresh = self.module.init({"params": rng}, values, return_dict=False)
        if params is None:
            return fresh
        fresh, params = flatten_dict(unfreeze(fresh)), flatten_dict(unfreeze(params))
        for key in self._missing_keys:
            params[key] = fresh[key]
        self._missing_keys = set()
        return freeze(unflatten_dict(params))

    def __call__(self, values, params: dict = None, train: bool = False, return_dict: bool = True):
        chosen = params or self.params
        variables = {"params": chosen["params"], "batch_stats": chosen["batch_stats"]}
        mutable = ["batch_stats"] if train else False
        return self.module.apply(variables, values, not train, return_dict, mutable=mutable)


class RecurrentConfig(PretrainedConfig):
    model_type = "recurrent"

    def __init__(self, vocab_size=19, hidden_size=8, **kwargs):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        super().__init__(**kwargs)


class FlaxRecurrentModule(nn.Module):
    config: RecurrentConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.embed_tokens = nn.Embed(self.config.vocab_size, self.config.hidden_size, dtype=self.dtype)
        self.mix = nn.Dense(self.config.hidden_size, dtype=self.dtype)
        self.norm = nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)

    def __call__(self, input_ids):
        embedded, states = self.embed_tokens(input_ids), []
        state = jnp.zeros_like(embedded[:, 0])
        for step in range(embedded.shape[1]):
            state = jnp.tanh(self.mix(jnp.concatenate([state, embedded[:, step]], axis=-1)))
            states.append(state)
        return self.norm(jnp.stack(states, axis=1))


class FlaxRecurrentForCausalLMModule(nn.Module):
    config: RecurrentConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.model = FlaxRecurrentModule(self.config, dtype=self.dtype)
        self.lm_head = nn.Dense(self.config.vocab_size, use_bias=False, dtype=self.dtype)

    def __call__(self, input_ids, deterministic: bool = True, return_dict: bool = True):
        hidden = self.model(input_ids)
        if self.config.tie_word_embeddings:
            table = self.model.variables["params"]["embed_tokens"]["embedding"].T
            logits = self.lm_head.apply({"params": {"kernel": table}}, hidden)
        else:
            logits = self.lm_head(hidden)
        return FlaxCausalLMOutput(logits=logits) if return_dict else (logits,)


class FlaxRecurrentForCausalLM(FlaxPreTrainedModel):
    """A causal model whose head has no parameters of its own, since they are those of its embeddings."""

    config_class = RecurrentConfig
    base_model_prefix = "model"
    module_class = FlaxRecurrentForCausalLMModule
    _tied_weights_keys = ["lm_head.weight"]

    def __init__(
        self,
        config: RecurrentConfig,
        input_shape: Tuple[int] = (1, 2),
        seed: int = 0,
        dtype: jnp.dtype = jnp.float32,
        _do_init: bool = True,
        **kwargs,
    ):
        module = self.module_class(config=config, dtype=dtype, **kwargs)
        super().__init__(config, module, input_shape=input_shape, seed=seed, dtype=dtype, _do_init=_do_init)

    def init_weights(self, rng: jax.Array, input_shape: Tuple, params: FrozenDict = None) -> FrozenDict:
        fresh = self.module.init({"params": rng}, jnp.zeros(input_shape, dtype="i4"))["params"]
        if params is None:
            return fresh
        fresh, params = flatten_dict(unfreeze(fresh)), flatten_dict(unfreeze(params))
        for key in self._missing_keys:
            params[key] = fresh[key]
        self._missing_keys = set()
        return freeze(unflatten_dict(params))

    def __call__(self, input_ids, params: dict = None, dropout_rng: Any = None, train: bool = False):
        rngs = {"dropout": dropout_rng} if dropout_rng is not None else {}
        inputs = {"params": params or self.params}
        return self.module.apply(inputs, jnp.array(input_ids, dtype="i4"), not train, True, rngs=rngs)


class FlaxBertForScoringModule(nn.Module):
    config: BertConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.bert = FlaxBertModule(config=self.config, dtype=self.dtype)
        self.squeeze = nn.Dense(4, dtype=self.dtype)
        self.classifier = nn.Dense(self.config.num_labels, dtype=self.dtype)

    def __call__(self, input_ids, attention_mask, deterministic: bool = True, return_dict: bool = True):
        zeros = jnp.zeros_like(input_ids)
        positions = jnp.broadcast_to(jnp.arange(input_ids.shape[-1]), input_ids.shape)
        pooled = self.bert(input_ids, attention_mask, zeros, positions, None, deterministic=deterministic)[1]
        logits = self.classifier(jnp.tanh(self.squeeze(pooled)))
        return FlaxSequenceClassifierOutput(logits=logits) if return_dict else (logits,)


class FlaxBertForScoring(FlaxPreTrainedModel):
    """A head of the author's around a built-in backbone."""

    config_class = BertConfig
    base_model_prefix = "bert"
    module_class = FlaxBertForScoringModule

    def __init__(
        self,
        config: BertConfig,
        input_shape: Tuple[int] = (1, 2),
        seed: int = 0,
        dtype: jnp.dtype = jnp.float32,
        _do_init: bool = True,
        **kwargs,
    ):
        module = self.module_class(config=config, dtype=dtype, **kwargs)
        super().__init__(config, module, input_shape=input_shape, seed=seed, dtype=dtype, _do_init=_do_init)

    def init_weights(self, rng: jax.Array, input_shape: Tuple, params: FrozenDict = None) -> FrozenDict:
        ids = jnp.zeros(input_shape, dtype="i4")
        fresh = self.module.init({"params": rng, "dropout": rng}, ids, jnp.ones_like(ids))["params"]
        if params is None:
            return fresh
        fresh, params = flatten_dict(unfreeze(fresh)), flatten_dict(unfreeze(params))
        for key in self._missing_keys:
            params[key] = fresh[key]
        self._missing_keys = set()
        return freeze(unflatten_dict(params))

    def __call__(
        self, input_ids, attention_mask=None, params: dict = None, dropout_rng: Any = None, train: bool = False
    ):
        input_ids = jnp.array(input_ids, dtype="i4")
        mask = jnp.ones_like(input_ids) if attention_mask is None else jnp.array(attention_mask, dtype="i4")
        rngs = {"dropout": dropout_rng} if dropout_rng is not None else {}
        return self.module.apply({"params": params or self.params}, input_ids, mask, not train, True, rngs=rngs)
