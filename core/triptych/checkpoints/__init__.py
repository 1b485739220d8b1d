"""Checkpoints in folders: finding, opening, naming, holding and saving them. Imports `weights` and what is below."""
