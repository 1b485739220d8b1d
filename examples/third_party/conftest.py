"""torch is imported before TensorFlow: the other order crashes some builds."""

import torch  # noqa: F401
