"""A decorated class, read once into a frozen `ClassSpec`, with its options checked."""
