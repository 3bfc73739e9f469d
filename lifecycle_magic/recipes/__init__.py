"""The steps of an image as values, with the text and the key of each.

`lifecycle_magic.image` is what users see of them; engines read them.
"""
