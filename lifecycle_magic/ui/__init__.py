"""The user interface: cards, tables, the panel and the command line."""
