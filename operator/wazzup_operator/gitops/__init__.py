"""The commands for files: export an account, check what is declared. Needs no cluster."""
