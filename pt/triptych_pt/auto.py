"""The auto classes of the PyTorch backend."""

from triptych.modeling.auto import make_auto_classes

_CLASSES = make_auto_classes("triptych_pt", "")
globals().update(_CLASSES)
__all__ = list(_CLASSES)  # noqa: PLE0605
