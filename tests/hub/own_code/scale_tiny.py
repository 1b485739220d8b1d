"""What the modules of the model share."""

SCALE = 2.0
