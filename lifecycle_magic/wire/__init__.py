"""What kernel and container say to each other, how, and what travels with it: used by both ends.

Standard library and cloudpickle only: this package travels into containers, where it may meet
an older Python than the kernel's, if only to be refused by name. Its syntax is that of 3.8.
"""
