"""Codecs of packed weights: codes and scales in place of floating numbers, decoded where they are used."""
