"""Arrays of a model where a load is told to put them."""
