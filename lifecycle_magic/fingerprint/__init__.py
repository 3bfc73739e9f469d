"""Digests of code, classes and values: what has not changed is neither built nor loaded again."""
