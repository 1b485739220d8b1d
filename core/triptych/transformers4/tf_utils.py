"""Functions over TensorFlow, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_tf.utilities": """
            check_embeddings_within_bounds convert_batch_encoding expand_1d flatten functional_layernorm
            invert_attention_mask load_attributes_from_hdf5_group save_attributes_to_hdf5_group
            scaled_dot_product_attention shape_list stable_softmax
        """,
    },
)
