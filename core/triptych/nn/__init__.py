"""What families are written in: parts and the recording of their schema, and what parts compute, over `ops`.

Imports `weights.schema`, `names` and `errors`. A config is an argument, its class a type: so none of this
needs the Hub.
"""
