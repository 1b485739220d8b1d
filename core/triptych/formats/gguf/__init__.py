"""GGUF files, under canonical names, dequantised when read."""
