"""The embedded engine: containers as sandboxed processes of this machine."""
