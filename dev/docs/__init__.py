"""What is generated of the code: docs/metrics.md and the dashboards. `python -m dev.docs`."""
