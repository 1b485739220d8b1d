"""The old name of `utils`, which files of transformers 3 and 4 import from."""

from triptych.transformers4 import exports

exports(
    globals(),
    also=("triptych.utils", "triptych.utils.generic", "triptych.utils.import_utils", "triptych.utils.hub"),
)
