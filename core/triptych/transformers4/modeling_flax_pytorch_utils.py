"""Weights from PyTorch to Flax and back, where transformers 4 had the functions."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_flax.utilities": """
            convert_pytorch_sharded_state_dict_to_flax convert_pytorch_state_dict_to_flax
            load_flax_checkpoint_in_pytorch_model load_flax_weights_in_pytorch_model
            load_pytorch_checkpoint_in_flax_state_dict rename_key_and_reshape_tensor
        """,
    },
)
