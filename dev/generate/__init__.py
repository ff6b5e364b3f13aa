"""Every generated file of the repository: `make generate`."""
