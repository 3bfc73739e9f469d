"""The cell magic ``%%lifecycle_cls`` and the line magic ``%lifecycle``."""
