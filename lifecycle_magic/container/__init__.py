"""The kernel's view of one live container: its start, connections, slots and exit."""
