"""What transformers 4 had beside its base class of Keras, for code that imports it."""

from __future__ import annotations
