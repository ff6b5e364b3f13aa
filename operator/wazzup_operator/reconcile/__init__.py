"""Computes the next statuses from what is declared and listed. Pure: no I/O, no clock."""
