"""What users see: cards, tables, the panel and the command line."""
