"""One live container, seen from the kernel: its start, what is said to it, its slots, its end."""
