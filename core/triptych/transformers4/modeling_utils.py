"""The base class of PyTorch and what was beside it, where transformers 4 had it."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych_pt.modeling": "PreTrainedModel",
        "triptych_pt.authors.attention": "ALL_ATTENTION_FUNCTIONS AttentionInterface",
        "triptych_pt.authors.mixin": "EmbeddingAccessMixin ModuleUtilsMixin",
        "triptych_pt.utilities": """
            Conv1D PoolerAnswerClass PoolerEndLogits PoolerStartLogits SQuADHead SequenceSummary
            SquadHeadOutput apply_chunking_to_forward dtype_byte_size expand_device_map
            find_pruneable_heads_and_indices get_disk_only_shard_files get_first_parameter_dtype
            get_parameter_device get_parameter_dtype get_state_dict_dtype get_state_dict_float_dtype
            id_tensor_storage is_accelerator_device load_sharded_checkpoint load_state_dict
            no_init_weights prune_conv1d_layer prune_layer prune_linear_layer restore_default_dtype
            set_initialized_submodules softmax_backward_data unwrap_model
        """,
        "triptych_pt.authors.activations": "get_activation",
        "triptych.formats.kinds": "_add_variant=with_variant",
        "triptych.config": "PretrainedConfig",
        "triptych.hub.pushing": "PushToHubMixin",
        "triptych.utils": """
            ADAPTER_SAFE_WEIGHTS_NAME ADAPTER_WEIGHTS_NAME CONFIG_NAME ContextManagers DUMMY_INPUTS
            FLAX_WEIGHTS_NAME ModelOutput SAFE_WEIGHTS_INDEX_NAME SAFE_WEIGHTS_NAME TF2_WEIGHTS_NAME
            TF_WEIGHTS_NAME WEIGHTS_INDEX_NAME WEIGHTS_NAME cached_file copy_func download_url
            extract_commit_hash has_file is_accelerate_available is_offline_mode is_remote_url
            is_safetensors_available is_torch_fx_proxy replace_return_docstrings
        """,
        "triptych.utils.logging": "logging=",
        "triptych.utils.hub": "convert_file_size_to_int get_checkpoint_shard_files",
        "triptych.dynamic_module_utils": "custom_object_save",
    },
)
