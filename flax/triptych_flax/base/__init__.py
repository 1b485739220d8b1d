"""What `FlaxPreTrainedModel` is made of, beside the hooks of core."""
