"""The life of a channel in the terminal, with a real Kubernetes API and a simulated Wazzup."""
