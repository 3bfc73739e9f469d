"""Every way to call a method: with one input or many, blocking or non-blocking."""
