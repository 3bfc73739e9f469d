"""New code for live objects, without losing the state that they hold."""
