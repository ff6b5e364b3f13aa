"""Makes the alerts out of the table of states and the thresholds: `python -m dev.monitoring`."""
