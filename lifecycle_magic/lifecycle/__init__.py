"""The states of a container, the events that report them, and the records of how it ended."""
