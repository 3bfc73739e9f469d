"""Exceptions of the user's code, raised again in the kernel, with fixes for common ones."""
