"""`transformers.utils`: names of files, docstring decorators, logging, and whether a package is installed."""

from triptych.files.paths import CONFIG_NAME as CONFIG_NAME
from triptych.files.paths import GENERATION_CONFIG_NAME as GENERATION_CONFIG_NAME
from triptych.formats.kinds import BIN, H5, MSGPACK, SAFETENSORS
from triptych.transformers4 import exports

WEIGHTS_NAME, WEIGHTS_INDEX_NAME = BIN.names()
TF2_WEIGHTS_NAME, TF2_WEIGHTS_INDEX_NAME = H5.names()
TF_WEIGHTS_NAME = "model.ckpt"
FLAX_WEIGHTS_NAME, FLAX_WEIGHTS_INDEX_NAME = MSGPACK.names()
SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME = SAFETENSORS.names()
FEATURE_EXTRACTOR_NAME = "preprocessor_config.json"
IMAGE_PROCESSOR_NAME = FEATURE_EXTRACTOR_NAME
PROCESSOR_NAME = "processor_config.json"
CHAT_TEMPLATE_NAME = "chat_template.json"
MODEL_CARD_NAME = "modelcard.json"
ADAPTER_CONFIG_NAME = "adapter_config.json"
ADAPTER_WEIGHTS_NAME = "adapter_model.bin"
ADAPTER_SAFE_WEIGHTS_NAME = "adapter_model.safetensors"
SENTENCEPIECE_UNDERLINE = SPIECE_UNDERLINE = "\u2581"

DUMMY_INPUTS = [[7, 6, 0, 0, 1], [1, 2, 3, 0, 0], [0, 0, 0, 4, 5]]
DUMMY_MASK = [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 1, 1]]
MULTIPLE_CHOICE_DUMMY_INPUTS = [[[0, 1, 0, 1], [1, 0, 0, 1]]] * 2

exports(
    globals(),
    {
        "triptych.utils.doc": """
            add_code_sample_docstrings add_end_docstrings add_start_docstrings
            add_start_docstrings_to_model_forward copy_func replace_return_docstrings
        """,
        "triptych.utils.logging": "logging=",
        "triptych_pt.utilities": "torch_float torch_int",
    },
    also=("triptych.utils.generic", "triptych.utils.import_utils", "triptych.utils.hub"),
)
