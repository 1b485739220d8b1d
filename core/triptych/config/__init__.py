"""The configuration of a model: plain data, read from and written to `config.json`.

Field names and the diff form of the file are those of transformers 4 and 5, so both read what triptych writes. A
config never imports, downloads or chooses code: unknown keys are kept and written back, nothing more.
"""

from triptych.checks import natural as natural
from triptych.checks import optional_positive_int as optional_positive_int
from triptych.checks import part_count as part_count
from triptych.checks import positive_int as positive_int
from triptych.checks import positive_number as positive_number
from triptych.checks import probability as probability
from triptych.config.base import PretrainedConfig as PretrainedConfig
from triptych.config.base import layer_type_validation as layer_type_validation
from triptych.config.fields import GENERATION_DEFAULTS as GENERATION_DEFAULTS
from triptych.config.fields import TRANSFORMERS_VERSION as TRANSFORMERS_VERSION
from triptych.config.foreign import taken_over as taken_over
from triptych.config.reading import config_path as config_path
from triptych.config.reading import get_configuration_file as get_configuration_file
from triptych.config.reading import hold_config as hold_config
from triptych.config.values import recursive_diff_dict as recursive_diff_dict
from triptych.files.paths import CONFIG_NAME as CONFIG_NAME
