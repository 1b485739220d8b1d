"""The auto classes of the PyTorch backend."""

from triptych.modeling.auto import make_auto_classes, make_tables

_TABLES = make_tables("pt")
_CLASSES = make_auto_classes("triptych_pt", "", _TABLES)
globals().update(_CLASSES, **_TABLES)
__all__ = list(_CLASSES)  # noqa: PLE0605
