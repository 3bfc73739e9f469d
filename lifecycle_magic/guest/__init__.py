"""Processes inside a container: the supervisor, which is PID 1, and the worker that it forks.

Standard library and cloudpickle only.
"""
