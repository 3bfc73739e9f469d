"""The handles in user code: of classes, instances, methods and functions."""
