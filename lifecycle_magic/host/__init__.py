"""The state folder of this machine: where files lie, who owns them, and how to read them safely."""
