"""The auto classes of the TensorFlow backend."""

from triptych.modeling.auto import make_auto_classes

_CLASSES = make_auto_classes("triptych_tf", "TF")
globals().update(_CLASSES)
__all__ = list(_CLASSES)  # noqa: PLE0605
