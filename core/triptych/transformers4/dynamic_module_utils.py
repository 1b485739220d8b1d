"""Code that comes with a checkpoint, where transformers 4 had the functions."""

from triptych.transformers4 import exports

exports(globals(), {"triptych.hub.saved_code": "custom_object_save"})
