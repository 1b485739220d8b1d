"""What authors write models with beside linen: modules of nnx, which is imported where they do."""
