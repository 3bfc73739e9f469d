"""Connections of this process to other sessions of the same user."""
