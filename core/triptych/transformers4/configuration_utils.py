"""`PretrainedConfig`, where transformers 4 had it."""

from triptych.transformers4 import exports

exports(
    globals(),
    {
        "triptych.config": "PreTrainedConfig=PretrainedConfig PretrainedConfig",
        "triptych.files.paths": "CONFIG_NAME",
        "triptych.hub.pushing": "PushToHubMixin",
        "triptych.utils": "cached_file copy_func",
        "triptych.utils.logging": "logging=",
    },
)
