"""Threads of the kernel: one event loop, SIGINT held back, and blocking work for coroutines."""
