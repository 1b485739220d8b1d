"""The callbacks of `fit`, where transformers 4 had them."""

from triptych.transformers4 import exports

exports(globals(), {"triptych_tf.authors.callbacks": "KerasMetricCallback PushToHubCallback"})
