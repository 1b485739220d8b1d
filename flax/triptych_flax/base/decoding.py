"""What the Flax classes of an encoder and a decoder share."""

from __future__ import annotations

from typing import Any

from triptych.nn.outputs import ModelOutput
from triptych_flax.modeling import FlaxPreTrainedModel


class EncodesAndDecodes(FlaxPreTrainedModel):
    """Base of classes whose encoder and decoder are called one by one too, by `encode` and `decode`."""

    def init_cache(self, batch_size: int, max_length: int, encoder_outputs: Any = None) -> Any:
        """As in the other families; `encoder_outputs`, which transformers 4 needed, are not."""
        return super().init_cache(batch_size, max_length)

    def _decoded(self, encoder_attention_mask: Any, return_dict: bool | None, **inputs: Any) -> Any:
        """Call the model with these inputs, among them `encoder_outputs`; return what of its output is the decoder's,
        under the names that it has for it; a tuple if `return_dict`, or for None the config, says so."""
        made = self(attention_mask=encoder_attention_mask, return_dict=True, **inputs)
        own = {name.removeprefix("decoder_"): v for name, v in made.items() if not name.startswith("encoder_")}
        as_dict = self.config.use_return_dict if return_dict is None else return_dict
        return ModelOutput(**own) if as_dict else tuple(own.values())
