"""Modal's public API, name by name: what runs here, what does nothing, what is refused and why."""
