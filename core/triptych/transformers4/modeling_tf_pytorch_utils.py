"""Weights from PyTorch to TensorFlow and back, where transformers 4 had the functions."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_tf.utilities": """
            TransposeType apply_transpose convert_tf_weight_name_to_pt_weight_name
            load_pytorch_checkpoint_in_tf2_model load_pytorch_model_in_tf2_model
            load_pytorch_state_dict_in_tf2_model load_pytorch_weights_in_tf2_model
            load_sharded_pytorch_safetensors_in_tf2_model load_tf2_checkpoint_in_pytorch_model
            load_tf2_model_in_pytorch_model load_tf2_state_dict_in_pytorch_model
            load_tf2_weights_in_pytorch_model
        """,
    },
)
