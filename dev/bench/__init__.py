"""Benchmarks of the controller, the webhook and the scrape."""
