"""Images as recipes: a base and the steps on top of it. No I/O but reading local files."""
