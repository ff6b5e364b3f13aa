"""From what is declared and what is listed to what is written. Pure: no I/O and no clock."""
