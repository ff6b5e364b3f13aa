"""Metrics, health and logs. Only the command line, the controller and the webhook import it."""
