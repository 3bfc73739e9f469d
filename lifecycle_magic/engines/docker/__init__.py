"""The Docker engine, by its API."""
