"""What the built-in models compute, once for all frameworks.

Every function takes as `m` the module that it belongs to: its parts are layers of the framework, `m.ops` the backend's
`ops`, `m.config` the config and `m.index` the number of its layer. A backend's class declares the layers and takes one
of these functions as its `forward`, `call` or `__call__`. Shapes: see `triptych.nn.functional`.
"""
