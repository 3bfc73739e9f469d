"""What tests that use kernels share."""

from kernel.fixtures import diary, engine, event_loop, kernel

__all__ = ["diary", "engine", "event_loop", "kernel"]
