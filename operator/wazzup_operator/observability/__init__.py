"""Metrics, health and logs. Only the edges import this room."""
