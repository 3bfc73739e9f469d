"""Classes and functions that another session serves, called by name."""
