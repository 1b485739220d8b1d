"""A hub on 127.0.0.1, for tests of what is pushed and loaded by the name of a repository."""
