"""Inputs that wait for a slot, and containers that have slots: how many, and with which code."""
