"""What Wazzup says. Knows nothing of Kubernetes."""
