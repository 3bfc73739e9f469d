"""The steps of an image as values, each with its text; `Image.key` makes one key of them all.

`lifecycle_magic.image` is what users see of them; engines read them.
"""
