"""What transformers 4 had beside its base class of Flax, for code that imports it."""

from __future__ import annotations
