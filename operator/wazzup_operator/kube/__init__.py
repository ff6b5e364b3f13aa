"""Kubernetes API client: requests, watches, statuses, Events, Lease, Secrets."""
