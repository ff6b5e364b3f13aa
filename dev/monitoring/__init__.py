"""Alerts, dashboards and their documents, made of the table of states: `make generate`."""
