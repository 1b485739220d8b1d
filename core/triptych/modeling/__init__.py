"""What the base classes and auto classes of the three frameworks share. Imports `families` and what is below."""
