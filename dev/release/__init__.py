"""Builds a release: everything that a team needs to install without this repository."""
