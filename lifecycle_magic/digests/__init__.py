"""What code, classes and values come to, as digests: while those are equal nothing has to be done.

`fingerprint` has the functions that others use. It reads bytecode and follows what that names, so
comments, formatting and the order of cells do not matter.
"""
