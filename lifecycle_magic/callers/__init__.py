"""The caller's half of a call, wherever the caller is: results, and errors with their frames."""
