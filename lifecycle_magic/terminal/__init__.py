"""What the command ``lifecycle-magic`` does, and parts of it that ``%lifecycle`` does as well."""
