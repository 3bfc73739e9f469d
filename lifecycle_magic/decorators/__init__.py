"""The decorators of a lifecycle class, and the marks that they set on functions.

This package travels into containers: the standard library and `lifecycle_magic.exception` only.
"""
