"""The protocol between kernel and container, used by both ends: messages, pickling, shared memory.

Standard library and cloudpickle only. This package travels into containers, where it may meet an
older Python than the kernel's, if only to report that version as unsupported. So its syntax is that
of Python 3.8.
"""
