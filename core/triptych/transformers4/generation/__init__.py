"""Modules of transformers' `generation`, where `triptych.generation` finds them: it has this folder on its path."""
