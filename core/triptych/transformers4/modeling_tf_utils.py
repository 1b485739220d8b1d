"""The base class of Keras and what was beside it, where transformers 4 had it."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_tf.modeling": "TFPreTrainedModel keras",
        "triptych_tf.authors.mixin": "TFModelUtilsMixin",
        "triptych_tf.utilities": """
            TFCausalLanguageModelingLoss TFConv1D TFMaskedLanguageModelingLoss TFModelInputType
            TFMultipleChoiceLoss TFNextSentencePredictionLoss TFQuestionAnsweringLoss
            TFSequenceClassificationLoss TFSequenceSummary TFSharedEmbeddings TFTokenClassificationLoss
            booleans_processing dtype_byte_size dummy_loss get_initializer init_copy_embeddings
            input_processing keras_serializable load_tf_shard load_tf_sharded_weights
            load_tf_sharded_weights_from_safetensors load_tf_weights load_tf_weights_from_h5
            load_tf_weights_from_safetensors shape_list strip_model_name_and_prefix tf_shard_checkpoint
            unpack_inputs
        """,
        "triptych_tf.authors.activations": "get_tf_activation=get_activation",
        "triptych.config": "PretrainedConfig",
        "triptych.utils": "ModelOutput SAFE_WEIGHTS_NAME TF2_WEIGHTS_NAME TF_WEIGHTS_NAME WEIGHTS_NAME",
        "triptych.utils.logging": "logging=",
    },
)
