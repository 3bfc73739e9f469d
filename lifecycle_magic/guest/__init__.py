"""What runs inside a container: the supervisor, which is PID 1, and the worker it forks.

Standard library and cloudpickle only.
"""
