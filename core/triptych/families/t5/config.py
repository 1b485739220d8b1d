"""T5 (Raffel et al., 2019, https://arxiv.org/abs/1910.10683) and its v1.1 variants: config."""

from __future__ import annotations

from typing import Any

from triptych.checks import part_count, positive_int, positive_number, probability
from triptych.config import PretrainedConfig
from triptych.errors import ConfigError
from triptych.families.common import optional_probability, require_built_in
from triptych.nn.axes import heads_axis
from triptych.weights.schema import Axis

_FEED_FORWARD = {
    "relu": ("relu", False),
    "gated-relu": ("relu", True),
    "gelu": ("gelu", False),
    "gated-gelu": ("gelu_new", True),  # v1.1 was trained with the approximation
    "silu": ("silu", False),
    "gated-silu": ("silu", True),
}
_FURTHEST = 1_000_000


class T5Config(PretrainedConfig):
    """Configuration of T5; the defaults are those of t5-small.

    `pruned_heads` counts attentions through: first the encoder's layers, then the decoder's self-attentions, then the
    decoder's cross-attentions.

    Raises:
        ConfigError: a field has an impossible value.
    """

    model_type = "t5"
    attribute_map = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers",
                     "head_dim": "d_kv"}  # fmt: skip
    checks = {
        "vocab_size": positive_int,
        "d_model": positive_int,
        "d_kv": positive_int,
        "d_ff": positive_int,
        "num_layers": part_count,
        "num_decoder_layers": part_count,
        "num_heads": part_count,
        "relative_attention_num_buckets": positive_int,
        "relative_attention_max_distance": positive_int,
        "dropout_rate": probability,
        "classifier_dropout": optional_probability,
        "layer_norm_epsilon": positive_number,
        "initializer_factor": positive_number,
    }

    def __init__(
        self,
        vocab_size: int = 32128,
        d_model: int = 512,
        d_kv: int = 64,
        d_ff: int = 2048,
        num_layers: int = 6,
        num_decoder_layers: int | None = None,
        num_heads: int = 8,
        relative_attention_num_buckets: int = 32,
        relative_attention_max_distance: int = 128,
        dropout_rate: float = 0.1,
        layer_norm_epsilon: float = 1e-6,
        initializer_factor: float = 1.0,
        feed_forward_proj: str = "relu",
        is_encoder_decoder: bool = True,
        use_cache: bool = True,
        pad_token_id: int | None = 0,
        eos_token_id: int | None = 1,
        decoder_start_token_id: int | None = 0,
        classifier_dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self._set_fields(locals())
        if num_decoder_layers is None:
            self.num_decoder_layers = num_layers
        # v1.1 does not scale before its untied head. A tied head that its file unties later was trained with the scale.
        self.scale_decoder_outputs = kwargs.pop("scale_decoder_outputs", kwargs.get("tie_word_embeddings") is not False)
        super().__init__(**kwargs)

    def validate(self) -> None:
        super().validate()
        require_built_in(self, "tie_encoder_decoder", "is_causal")
        if not isinstance(self.feed_forward_proj, str) or self.feed_forward_proj not in _FEED_FORWARD:
            raise ConfigError(
                "`feed_forward_proj` is unknown.",
                expected=f"one of {sorted(_FEED_FORWARD)}",
                received=repr(self.feed_forward_proj),
            )
        if self.relative_attention_num_buckets < 4 or self.relative_attention_num_buckets % 2:
            raise ConfigError(
                "`relative_attention_num_buckets` is impossible.",
                expected="an even number from 4",
                received=str(self.relative_attention_num_buckets),
            )
        half = self.relative_attention_num_buckets // 2
        if not half < self.relative_attention_max_distance <= _FURTHEST:
            raise ConfigError(
                "`relative_attention_max_distance` is impossible.",
                expected=f"more than {half}, half the number of buckets, and at most {_FURTHEST:,}",
                received=str(self.relative_attention_max_distance),
            )

        for name in ("dense_act_fn", "is_gated_act"):
            follows = getattr(self, name)
            if self._unplaced.get(name, follows) != follows:
                raise ConfigError(
                    f"`{name}` contradicts `feed_forward_proj`, from which it follows.",
                    expected=repr(follows),
                    received=repr(self._unplaced[name])[:80],
                    remedy="pass both, or leave it out",
                )

    def attention_count(self) -> int:
        return int(self.num_layers + 2 * self.num_decoder_layers)

    @property
    def dense_act_fn(self) -> str:
        return _FEED_FORWARD[self.feed_forward_proj][0]

    @property
    def is_gated_act(self) -> bool:
        return _FEED_FORWARD[self.feed_forward_proj][1]

    @property
    def cached_heads(self) -> tuple[int, ...]:
        """Number of key and value heads of each decoder layer."""
        return tuple(attention_heads(self, layer, True, False).units for layer in range(self.num_decoder_layers))

    def std(self, *widths: int) -> float:
        """Return the standard deviation of a new matrix: the factor over the root of the product of `widths`."""
        product = 1
        for width in widths:
            product *= width
        return float(self.initializer_factor * product**-0.5)

    def layers_of(self, decoder: bool) -> int:
        """Return the number of layers of the decoder, or of the encoder."""
        return int(self.num_decoder_layers if decoder else self.num_layers)

    def attention_number(self, layer: int, decoder: bool, cross: bool) -> int:
        """Return the number of an attention in `pruned_heads`."""
        return layer + decoder * self.num_layers + cross * self.num_decoder_layers


def attention_heads(config: PretrainedConfig, layer: int, decoder: bool, cross: bool) -> Axis:
    """Return the axis of the heads that an attention still has."""
    return heads_axis(config, config.attention_number(layer, decoder, cross))
