"""Keras's HDF5 files; reading needs no libhdf5."""
