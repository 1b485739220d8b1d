"""What code written for transformers 4 and Keras expects beside the base class; `triptych_tf.utilities` has it all."""
