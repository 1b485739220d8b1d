"""Models whose layers are on devices of their own."""
