"""The losses by a class's name, where transformers 4 had them."""
