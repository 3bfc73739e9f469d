"""The relay: a process that owns the streams to containers of an engine without shared files."""
