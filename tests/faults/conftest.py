"""The tests of faults use kernels as those in ``tests/kernel`` do."""

from kernel.fixtures import diary, engine, event_loop, kernel

__all__ = ["diary", "engine", "event_loop", "kernel"]
