"""The warm containers of a class, and the inputs that wait for a slot."""
