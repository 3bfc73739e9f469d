"""What code, classes and values come to, as digests: while those are equal nothing has to be done.

`fingerprint` makes them: it reads bytecode and follows what that names, so comments, formatting and
the order of cells do not matter. Beside it others use `origin` (where code comes from), `sources`
(what a file's names stand for), `attributes` and `absent`.
"""
