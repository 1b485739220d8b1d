"""What families are declared in: parts, attention, caches, rotary positions, arithmetic, heads, outputs."""
