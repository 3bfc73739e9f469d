"""The command ``lifecycle-magic``."""
