"""What transformers 4 had beside its base class of Keras, for code that imports it."""

from __future__ import annotations

from triptych_tf.authors.functions import (
    check_embeddings_within_bounds,
    convert_batch_encoding,
    dtype_byte_size,
    expand_1d,
    flatten,
    functional_layernorm,
    get_initializer,
    invert_attention_mask,
    load_attributes_from_hdf5_group,
    save_attributes_to_hdf5_group,
    scaled_dot_product_attention,
    shape_list,
    stable_softmax,
)
from triptych_tf.authors.inputs import (
    TFModelInputType,
    booleans_processing,
    input_processing,
    keras_serializable,
    unpack_inputs,
)
from triptych_tf.authors.layers import TFConv1D, TFSequenceSummary, TFSharedEmbeddings
from triptych_tf.authors.losses import (
    TFCausalLanguageModelingLoss,
    TFMaskedLanguageModelingLoss,
    TFMultipleChoiceLoss,
    TFNextSentencePredictionLoss,
    TFQuestionAnsweringLoss,
    TFSequenceClassificationLoss,
    TFTokenClassificationLoss,
    dummy_loss,
)
