"""The client of Wazzup's API. Independent of Kubernetes."""
