"""The auto classes of the Flax backend."""

from triptych.modeling.auto import make_auto_classes, make_tables

_TABLES = make_tables("flax")
_CLASSES = make_auto_classes("triptych_flax", "Flax", _TABLES)
globals().update(_CLASSES, **_TABLES)
__all__ = list(_CLASSES)  # noqa: PLE0605
