"""Once what the models compute, which the families say now; `common` is `triptych.nn.stack`."""
