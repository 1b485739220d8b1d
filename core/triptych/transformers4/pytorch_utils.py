"""Functions over PyTorch that model files use, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.utilities": """
            ALL_LAYERNORM_LAYERS Conv1D apply_chunking_to_forward compile_compatible_method_lru_cache
            find_pruneable_heads_and_indices id_tensor_storage infer_device
            is_torch_greater_or_equal_than_1_10 is_torch_greater_or_equal_than_1_12
            is_torch_greater_or_equal_than_1_13 is_torch_greater_or_equal_than_1_9
            is_torch_greater_or_equal_than_2_0 is_torch_greater_or_equal_than_2_1
            is_torch_greater_or_equal_than_2_2 is_torch_greater_or_equal_than_2_3
            is_torch_greater_or_equal_than_2_4 is_torch_greater_or_equal_than_2_6 isin_mps_friendly
            meshgrid parsed_torch_version_base prune_conv1d_layer prune_layer prune_linear_layer
            softmax_backward_data
        """,
        "triptych.utils": "is_torch_xla_available",
        "triptych.utils.logging": "logging=",
    },
)
